-- Takes over from the database what idempotency keys led to, while not all are known yet.
-- KEYS     the orders of each idempotency key
-- ARGV     the epoch; up to which buyer, in order of the names, all are known with these (empty: as
--          far as before); whether all are known with these (1 or 0); then per key '<key> <buyer>' and
--          '<id> <product> <quantity>'
-- Returns  1; 0: it is another epoch, or all were known, nothing was done
local keys = KEYS[1]
local found = redis.call('HMGET', keys, '', 'epoch')
if found[1] or found[2] ~= ARGV[1] then
  return 0
end
for i = 4, #ARGV, 2 do
  redis.call('HSETNX', keys, ARGV[i], ARGV[i + 1])
end
if ARGV[3] == '1' then
  redis.call('HSET', keys, '', 1)
  redis.call('HDEL', keys, 'epoch', 'filled')
elseif ARGV[2] ~= '' then
  redis.call('HSET', keys, 'filled', ARGV[2])
end
return 1
