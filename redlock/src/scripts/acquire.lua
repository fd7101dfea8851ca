-- Votes on a lease of several resources: grants all of them or none.
-- KEYS     the membership, the floor (stands for a missing fence), then the lock of each resource,
--          then the fence of each (the highest token ever granted on this node)
-- ARGV     epoch, owner, lease and longest lease in ms, slot, its rank, the time limits of a slot
--          and of a request in ms, then the proposed token of each resource
-- Returns  {time, vote, wait, counter...}
--   time     this node's clock in microseconds
--   vote     1 granted; 0 a lock is held; -1 a token is not above its fence; -2 the epoch is over
--   wait     ms until the last lock in the way expires (vote 0), else 0
--   counter  the fence of each resource
-- Returns the time only, an integer, if everything is granted.
-- A lock with more time left than the longest lease dates from before this node's clock was set
-- back. It counts as expired: clients that saw the clock jump excluded this node for the longest
-- lease. A lock without an expiry was not written by a holder, but may be a lease whose expiry
-- was removed. It gets the longest lease from now on.
-- A fence that is no counter (counters.lua) is damage: the script changes nothing, and the client
-- repairs the node.
local HIGHEST = 4503599627370496
local epoch, owner, lease, longest = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local slot, rank, slot_limit, request_limit = unpack(ARGV, 5, 8)
local resources = (#KEYS - 2) / 2
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
-- The floor, the owners, the fences.
local present = read(2, #KEYS)
local floor = present[1] or '0'
local vote, wait, counters, held, unknown = 1, 0, {}, {}, {}
for i = 1, resources do
  local fence = present[1 + resources + i]
  local counter = tonumber(fence or floor)
  if not (counter and counter >= 0 and counter <= HIGHEST) then
    return redis.error_reply('DAMAGED ' .. KEYS[2 + resources + i] .. ' is no counter')
  end
  counters[i] = counter
  if not fence then
    unknown[#unknown + 1] = KEYS[2 + resources + i]
  end
  local ttl = present[1 + i] and redis.call('PTTL', KEYS[2 + i]) or -2
  if ttl == -1 then
    ttl = longest
    redis.call('PEXPIRE', KEYS[2 + i], longest)
    redis.call('PUBLISH', 'redlock:repaired', KEYS[2 + i])
  end
  if ttl ~= -2 and ttl <= longest then
    vote, wait = 0, math.max(wait, ttl)
    held[#held + 1] = i
  elseif vote == 1 and tonumber(ARGV[8 + i]) <= counters[i] then
    vote = -1
  end
end
-- MGET returns nothing for a key of another type.
if call_for_all('EXISTS', unknown, 1) > 0 then
  return redis.error_reply('DAMAGED ' .. unknown[1] .. ' is no string')
end
if epoch < tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') then
  vote, wait, held = -2, 0, {}
end
if vote == 1 then
  local fences = {}
  for i = 1, resources do
    redis.call('SET', KEYS[2 + i], owner, 'PX', lease)
    fences[2 * i - 1], fences[2 * i] = KEYS[2 + resources + i], ARGV[8 + i]
  end
  call_for_all('MSET', fences, 1)
  return micros
end
-- A release never grants a part of the resources. The request reserves the resource instead
-- (release.lua). Only this branch needs the keys of the queues; they follow from those of the locks.
for _, i in ipairs(held) do
  local name = string.sub(KEYS[2 + i], #'lock:' + 1)
  redis.call('ZADD', 'queue:' .. name, rank, slot)
  redis.call('ZADD', 'queue-limits:' .. name, now + slot_limit, slot)
  local request = cmsgpack.pack(ARGV[1], '', lease, now + request_limit, '0')
  redis.call('HSET', 'queue-requests:' .. name, slot, request)
end
local reply = { micros, vote, wait }
for i = 1, resources do
  reply[3 + i] = counters[i]
end
return reply
