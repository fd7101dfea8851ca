-- Votes on a lease of one resource. If the lock is held, the request stays: the next release on
-- this node grants the resource to the first slot of the queue (release.lua). Such a grant lasts
-- for the time limit of a slot; its holder extends it to the full lease.
-- KEYS     the membership, the floor (acquire.lua), the lock, its fence, the queue (slots by rank),
--          the slots' time limits, the slots' requests
-- ARGV     epoch, owner, lease and longest lease in ms, the proposed token, slot, its rank, the
--          time limits of a slot and of a request in ms
-- Returns  {time, vote, wait, counter}
--   time     this node's clock in microseconds
--   vote     1 granted; 0 the lock is held; -1 the token is too low; -2 the epoch is over
--   wait     ms until the lock expires (vote 0), else 0
--   counter  the fence after the call
-- Returns the time only, an integer, if the lock is granted.
-- A slot that was silent for its time limit, by this node's clock, is removed. A time limit or a
-- lock that lasts longer than possible dates from before this node's clock was set back and counts
-- as expired (acquire.lua).
local HIGHEST = 4503599627370496
local members, floor, lock, fence, queue, limits, requests = unpack(KEYS)
local epoch, owner, lease, longest = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local token, slot, rank = ARGV[5], ARGV[6], ARGV[7]
local slot_limit, request_limit = tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local counter = tonumber(redis.call('GET', fence) or redis.call('GET', floor) or '0')

if tonumber(epoch) < tonumber(redis.call('HGET', members, 'epoch') or '0') then
  return {micros, -2, 0, counter}
end

-- The usual case, a free lock: one command checks and sets it.
if counter and counter >= 0 and tonumber(token) > counter and redis.call('SET', lock, owner, 'PX', lease, 'NX') then
  redis.call('SET', fence, token)
  return micros
end

-- Damage and locks without an expiry: as in acquire.lua.
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
redis.call('ZADD', queue, rank, slot)
redis.call('ZADD', limits, now + slot_limit, slot)
for _, range in ipairs({ { '-inf', now }, { '(' .. now + slot_limit, '+inf' } }) do
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', limits, range[1], range[2])) do
    redis.call('ZREM', queue, expired)
    redis.call('ZREM', limits, expired)
    redis.call('HDEL', requests, expired)
  end
end
-- A dead slot that is granted blocks the resource no longer than it blocked the queue.
local provisional = math.min(tonumber(lease), slot_limit)
local request = cmsgpack.pack(epoch, owner, provisional, now + request_limit, '0')
redis.call('HSET', requests, slot, request)
return {micros, 0, ttl, counter}
