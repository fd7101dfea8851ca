-- Votes on a lease of one resource in fair order and issues the tickets that the slot lacks. If the
-- vote is 0, the request stays: the next release on this node grants the resource to the first slot
-- of the queue (release.lua). Such a grant lasts for the time limit of a slot; its holder extends
-- it to the full lease.
-- KEYS     the membership, the floor (acquire.lua), the lock, its fence, the queue (slots by their
--          lowest ticket), the slots' time limits, the slots' requests, the ticket counter
-- ARGV     epoch, owner, lease and longest lease in ms, the proposed token, slot, its lowest ticket
--          (0: none), the time limits of a slot and of a request in ms, the number of tickets
--          to issue, the first proposed ticket, the owner of the lease that the request renews
--          ('': none)
-- Returns  {time, vote, wait, counter, next, first}
--   time     this node's clock in microseconds
--   vote     1 granted; 0 the lock is held or another slot is first; -1 the token is too low;
--            -2 the epoch is over
--   wait     ms until what is in the way expires (vote 0), else 0
--   counter  the fence after the call
--   next     the lowest ticket of another slot (vote 1; 0: none): the holder may serve its own
--            tickets below this one
--   first    the first ticket issued here (0: none), as in take_tickets.lua
-- A slot that holds the lock may be absent from the queue. Its release says the slot's place from
-- then on (release.lua).
-- A lease is renewed as in renew.lua: the lock that the node holds for it counts as free, and lasts at
-- least as long as before. Slots with higher tickets do not prevent that, because the holder serves
-- only tickets below theirs; slots without tickets do. A lock that is missing counts as held. A refused
-- renewal leaves the slot's place, but no request: a late grant would look like a renewed lock.
-- A slot that was silent for its time limit, by this node's clock, is skipped. A time limit or a
-- lock that lasts longer than possible dates from before this node's clock was set back and counts
-- as expired (acquire.lua).
local HIGHEST = 4503599627370496
local members, floor, lock, fence, queue, limits, requests, tickets = unpack(KEYS)
local epoch, owner, lease, longest, token, slot = unpack(ARGV, 1, 6)
local rank, slot_limit, request_limit = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local wanted, first, renewed = tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local known = redis.call('MGET', fence, floor, tickets)
local counter, issued = tonumber(known[1] or known[2] or '0'), tonumber(known[3] or known[2] or '0')
-- Damage, as in acquire.lua. MGET returns nothing for a key of another type.
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
  if rank == 0 then
    rank = first
  end
else
  first = 0
end

local ttl = nil
if renewed ~= '' then
  ttl = redis.call('PTTL', lock)
  if redis.pcall('GET', lock) == renewed and ttl <= tonumber(longest) then
    lease = math.max(tonumber(lease), ttl)
  else
    renewed = '-'
  end
end

-- The usual case, an empty queue: one command checks and sets the lock. A slot whose lease may end
-- before its time limit goes on to be queued.
if tonumber(token) > counter and tonumber(lease) >= slot_limit and redis.call('EXISTS', queue) == 0
  and renewed ~= '-' and (renewed ~= '' and redis.call('SET', lock, owner, 'PX', lease)
    or redis.call('SET', lock, owner, 'PX', lease, 'NX')) then
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
redis.call('ZADD', queue, rank, slot)
redis.call('ZADD', limits, now + slot_limit, slot)

local function remove(other)
  redis.call('ZREM', queue, other)
  redis.call('ZREM', limits, other)
  redis.call('HDEL', requests, other)
end

-- Slots without tickets have a negative rank and never block a fair slot: a release decides which
-- kind is next (release.lua). Expired slots are removed here.
local function next_slot()
  local slots = redis.call('ZRANGE', queue, 0, 1, 'WITHSCORES')
  if slots[1] and tonumber(slots[2]) < 0 then
    for _, range in ipairs({ { '-inf', now }, { '(' .. now + slot_limit, '+inf' } }) do
      for _, gone in ipairs(redis.call('ZRANGEBYSCORE', limits, range[1], range[2])) do
        remove(gone)
      end
    end
    slots = redis.call('ZRANGEBYSCORE', queue, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
  end
  if slots[1] == slot then
    return slots[3], tonumber(slots[4] or '0')
  end
  return slots[1], tonumber(slots[2])
end

local vote, wait, next_ticket = 1, 0, 0
ttl = ttl or redis.call('PTTL', lock)
if ttl == -1 then
  ttl = tonumber(longest)
  redis.call('PEXPIRE', lock, longest)
  redis.call('PUBLISH', 'redlock:repaired', lock)
end
if renewed == '-' then
  vote, wait = 0, math.max(ttl, slot_limit)
elseif renewed == '' and ttl ~= -2 and ttl <= tonumber(longest) then
  vote, wait = 0, ttl
else
  local other
  other, next_ticket = next_slot()
  while vote == 1 and other and next_ticket < rank do
    local alive_until = tonumber(redis.call('ZSCORE', limits, other) or '0')
    if alive_until > now and alive_until <= now + slot_limit then
      vote, wait = 0, alive_until - now
    else
      remove(other)
      other, next_ticket = next_slot()
    end
  end
  if vote == 1 and renewed ~= '' and redis.call('ZCOUNT', queue, '-inf', '(0') > 0 then
    vote, wait = 0, slot_limit
  end
  if vote == 1 and tonumber(token) <= counter then
    vote = -1
  end
end
if vote == 1 then
  redis.call('SET', lock, owner, 'PX', lease)
  redis.call('SET', fence, token)
  counter = tonumber(token)
elseif vote == 0 and renewed == '' then
  -- A dead slot that is granted blocks the resource no longer than it blocked the queue.
  local provisional = math.min(tonumber(lease), slot_limit)
  local request = cmsgpack.pack(epoch, owner, provisional, now + request_limit, '1')
  redis.call('HSET', requests, slot, request)
end
return {micros, vote, wait, counter, next_ticket, first}
