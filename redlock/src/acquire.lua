-- Votes on this node for one holder of one or more resources: all of them or none.
-- KEYS     per resource: its lock, its fence (the highest token ever granted here)
-- ARGV     owner, lease in ms, then per resource the proposed token
-- Returns  {vote, wait, counter...}
--   vote     1 granted; 0 a lock is held; -1 a token is not above its fence
--   wait     ms until the last lock in the way expires (vote 0), else 0
--   counter  the fence of each resource after the call
local owner, lease = ARGV[1], ARGV[2]
local vote, wait, counters = 1, 0, {}
for i = 1, #ARGV - 2 do
  local lock, fence = KEYS[2 * i - 1], KEYS[2 * i]
  counters[i] = tonumber(redis.call('GET', fence) or '0')
  local ttl = redis.call('PTTL', lock)
  if ttl ~= -2 then
    vote, wait = 0, math.max(wait, ttl)
  elseif vote == 1 and tonumber(ARGV[i + 2]) <= counters[i] then
    vote = -1
  end
end
if vote == 1 then
  for i = 1, #ARGV - 2 do
    redis.call('SET', KEYS[2 * i - 1], owner, 'PX', lease)
    redis.call('SET', KEYS[2 * i], ARGV[i + 2])
    counters[i] = tonumber(ARGV[i + 2])
  end
end
return {vote, wait, unpack(counters)}
