-- Votes on this node for one holder of one resource. If it is held, the request stays: whoever
-- releases the resource here grants it to the first in the queue (release.lua), for the time limit
-- of a line; who is alive extends that to its lease.
-- KEYS     the membership, the floor (acquire.lua), the lock, its fence, the queue (lines by their
--          place), the lines' time limits, the lines' requests
-- ARGV     epoch, owner, lease and longest lease in ms, the proposed token, line, its place, the
--          time limits of a line and of a request in ms
-- Returns  {time, vote, wait, counter}
--   time     this node's clock in microseconds
--   vote     1 granted; 0 the lock is held; -1 the token is too low; -2 the epoch is over
--   wait     ms until what is in the way expires (vote 0), else 0
--   counter  the fence after the call
-- Returns the time only, an integer, where it is granted at once.
-- A line that has not been heard of for its time limit, by this node's clock, is gone. What
-- lasts longer than it may is from before this node's clock was set back, and is over (acquire.lua).
local HIGHEST = 4503599627370496
local members, floor, lock, fence, queue, limits, requests = unpack(KEYS)
local epoch, owner, lease, longest = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local token, line, place = ARGV[5], ARGV[6], ARGV[7]
local limit, request_limit = tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local counter = tonumber(redis.call('GET', fence) or redis.call('GET', floor) or '0')

if tonumber(epoch) < tonumber(redis.call('HGET', members, 'epoch') or '0') then
  return {micros, -2, 0, counter}
end

-- Nobody there, which is the usual case: checked and changed in one.
if counter and counter >= 0 and tonumber(token) > counter and redis.call('SET', lock, owner, 'PX', lease, 'NX') then
  redis.call('SET', fence, token)
  return micros
end

-- Damage, and a lock that never expires: as in acquire.lua.
if not (counter and counter >= 0 and counter <= HIGHEST) then
  return redis.error_reply('DAMAGED ' .. fence .. ' is no counter')
end
local ttl = redis.call('PTTL', lock)
if ttl == -1 then
  ttl = longest
  redis.call('PEXPIRE', lock, longest)
  redis.call('PUBLISH', 'redlock:repaired', lock)
end
if ttl == -2 or ttl > longest then
  if tonumber(token) <= counter then
    return {micros, -1, 0, counter}
  end
  redis.call('SET', lock, owner, 'PX', lease)
  redis.call('SET', fence, token)
  return micros
end

local now = math.floor(micros / 1000)
redis.call('ZADD', queue, place, line)
redis.call('ZADD', limits, now + limit, line)
for _, range in ipairs({ { '-inf', now }, { '(' .. now + limit, '+inf' } }) do
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', limits, range[1], range[2])) do
    redis.call('ZREM', queue, gone)
    redis.call('ZREM', limits, gone)
    redis.call('HDEL', requests, gone)
  end
end
-- Should the line be dead when it is granted, it is in the way no longer than in the queue.
local provisional = math.min(tonumber(lease), limit)
local request = cmsgpack.pack(epoch, owner, provisional, now + request_limit, '0')
redis.call('HSET', requests, line, request)
return {micros, 0, ttl, counter}
