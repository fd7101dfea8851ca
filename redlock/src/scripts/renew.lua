-- Votes on a renewal: passes the lock of one resource from a lease to the next lease of the same
-- client, unless another slot waits for it.
-- KEYS     the membership, the floor (acquire.lua), the lock, its fence, the slots' time limits
-- ARGV     epoch, owner, lease and longest lease in ms, the proposed token, the owner of the lease
--          that is renewed, the time limit of a slot in ms
-- Returns  {time, vote, wait, counter}
--   time     this node's clock in microseconds
--   vote     1 granted; 0 the lock is not that lease's, or a slot waits; -1 the token is too low;
--            -2 the epoch is over
--   wait     0
--   counter  the fence after the call
-- Returns the time only, an integer, if the lock is granted.
-- The lock does not end earlier than before: the lease that is renewed is still in use.
-- A missing lock is never granted here: another owner may have held it in between, and the waiters
-- of a free lock come first. A refused renewal leaves no request.
-- A slot that was silent for its time limit does not count. A time limit or a lock that lasts longer
-- than possible dates from before this node's clock was set back and counts as expired (acquire.lua).
local HIGHEST = 4503599627370496
local members, floor, lock, fence, limits = unpack(KEYS)
local epoch, owner, lease, longest, token, renewed, slot_limit = unpack(ARGV)
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local counter = tonumber(redis.call('GET', fence) or redis.call('GET', floor) or '0')

if tonumber(epoch) < tonumber(redis.call('HGET', members, 'epoch') or '0') then
  return {micros, -2, 0, counter}
end
if not (counter and counter >= 0 and counter <= HIGHEST) then
  return redis.error_reply('DAMAGED ' .. fence .. ' is no counter')
end

local now, ttl = math.floor(micros / 1000), redis.call('PTTL', lock)
if redis.pcall('GET', lock) ~= renewed or ttl > tonumber(longest)
  or redis.call('ZCOUNT', limits, '(' .. now, now + tonumber(slot_limit)) > 0 then
  return {micros, 0, 0, counter}
end
if tonumber(token) <= counter then
  return {micros, -1, 0, counter}
end
redis.call('SET', lock, owner, 'PX', math.max(tonumber(lease), ttl))
redis.call('SET', fence, token)
return micros
