-- Votes on this node for one holder of one resource in fair order, and issues the tickets of those
-- who have none yet. If others stand in the way, the request stays: whoever releases the resource
-- here grants it to the first in the queue (release.lua), for the time limit of a line; who is
-- alive extends that to its lease.
-- KEYS     the membership, the floor (acquire.lua), the lock, its fence, the queue (lines by their
--          lowest ticket), the lines' time limits, the lines' requests, the ticket counter
-- ARGV     epoch, owner, lease and longest lease in ms, the proposed token, line, the lowest ticket
--          it has (0: none), the time limits of a line and of a request in ms, how many tickets it
--          wants, the first that is proposed
-- Returns  {time, vote, wait, counter, next, first}
--   time     this node's clock in microseconds
--   vote     1 granted; 0 the lock is held or another line is before this; -1 the token is too
--            low; -2 the epoch is over
--   wait     ms until what is in the way expires (vote 0), else 0
--   counter  the fence after the call
--   next     the lowest ticket of another line (vote 1; 0: none): the holder may serve its own below
--   first    the first ticket issued here (0: none), as take_tickets.lua does it
-- A line that holds the lock here need not be in the queue: when it releases the lock, or gives it up,
-- it says what place it has from then on (release.lua).
-- A line that has not been heard of for its time limit, by this node's clock, is skipped. What
-- lasts longer than it may is from before this node's clock was set back, and is over (acquire.lua).
local HIGHEST = 4503599627370496
local members, floor, lock, fence, queue, limits, requests, tickets = unpack(KEYS)
local epoch, owner, lease, longest, token, line = unpack(ARGV, 1, 6)
local place, limit, request_limit = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local wanted, first = tonumber(ARGV[10]), tonumber(ARGV[11])
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local known = redis.call('MGET', fence, floor, tickets)
local counter, issued = tonumber(known[1] or known[2] or '0'), tonumber(known[3] or known[2] or '0')
-- Damage, as in acquire.lua. MGET gives nothing for what is there and no string.
if not (counter and counter >= 0 and counter <= HIGHEST)
  or not known[1] and redis.call('EXISTS', fence) == 1 then
  return redis.error_reply('DAMAGED ' .. fence .. ' is no counter')
elseif not (issued and issued >= 0 and issued <= HIGHEST)
  or not known[3] and redis.call('EXISTS', tickets) == 1 then
  return redis.error_reply('DAMAGED ' .. tickets .. ' is no counter')
end

if tonumber(epoch) < tonumber(redis.call('HGET', members, 'epoch') or '0') then
  return {micros, -2, 0, counter, 0, 0}
end

local last = nil
if wanted > 0 then
  first = math.max(first, issued + 1)
  last = string.format('%.0f', first + wanted - 1)
  if place == 0 then
    place = first
  end
else
  first = 0
end

-- Nobody there, which is the usual case: checked and changed in one. A lease that may end before
-- the time limit of the line does leaves the line its place.
if tonumber(token) > counter and tonumber(lease) >= limit and redis.call('EXISTS', queue) == 0
  and redis.call('SET', lock, owner, 'PX', lease, 'NX') then
  if last then
    redis.call('MSET', fence, token, tickets, last)
  else
    redis.call('SET', fence, token)
  end
  return {micros, 1, 0, tonumber(token), 0, first}
end

if last then
  redis.call('SET', tickets, last)
end
redis.call('ZADD', queue, place, line)
redis.call('ZADD', limits, now + limit, line)

local function remove(other)
  redis.call('ZREM', queue, other)
  redis.call('ZREM', limits, other)
  redis.call('HDEL', requests, other)
end

-- Those who wait in any order have a negative place. They are in nobody's way: a release decides which
-- kind is next (release.lua). Those of them that are gone must not stay.
local function next_line()
  local lines = redis.call('ZRANGE', queue, 0, 1, 'WITHSCORES')
  if lines[1] and tonumber(lines[2]) < 0 then
    for _, range in ipairs({ { '-inf', now }, { '(' .. now + limit, '+inf' } }) do
      for _, gone in ipairs(redis.call('ZRANGEBYSCORE', limits, range[1], range[2])) do
        remove(gone)
      end
    end
    lines = redis.call('ZRANGEBYSCORE', queue, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
  end
  if lines[1] == line then
    return lines[3], tonumber(lines[4] or '0')
  end
  return lines[1], tonumber(lines[2])
end

local vote, wait, next_place = 1, 0, 0
local ttl = redis.call('PTTL', lock)
if ttl == -1 then
  ttl = tonumber(longest)
  redis.call('PEXPIRE', lock, longest)
  redis.call('PUBLISH', 'redlock:repaired', lock)
end
if ttl ~= -2 and ttl <= tonumber(longest) then
  vote, wait = 0, ttl
else
  local other
  other, next_place = next_line()
  while vote == 1 and other and next_place < place do
    local believed_until = tonumber(redis.call('ZSCORE', limits, other) or '0')
    if believed_until > now and believed_until <= now + limit then
      vote, wait = 0, believed_until - now
    else
      remove(other)
      other, next_place = next_line()
    end
  end
  if vote == 1 and tonumber(token) <= counter then
    vote = -1
  end
end
if vote == 1 then
  redis.call('SET', lock, owner, 'PX', lease)
  redis.call('SET', fence, token)
  counter = tonumber(token)
elseif vote == 0 then
  -- Should the line be dead when it is granted, it is in the way no longer than in the queue.
  local provisional = math.min(tonumber(lease), limit)
  local request = cmsgpack.pack(epoch, owner, provisional, now + request_limit, '1')
  redis.call('HSET', requests, line, request)
end
return {micros, vote, wait, counter, next_place, first}
