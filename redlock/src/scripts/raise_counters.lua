-- Raises the counters and the membership of this node to the given values. No counter is lowered.
-- KEYS     the membership, then the counters
-- ARGV     epoch, nodes, joining, then the value of each counter
-- Returns  the epoch of the membership after the call
for i = 2, #KEYS do
  local here = counter_of(redis.pcall('GET', KEYS[i]) or '0')
  if not here or tonumber(ARGV[i + 2]) > here then
    redis.call('SET', KEYS[i], ARGV[i + 2])
  end
end
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if tonumber(ARGV[1]) > epoch then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'nodes', ARGV[2], 'joining', ARGV[3])
  epoch = tonumber(ARGV[1])
end
return epoch
