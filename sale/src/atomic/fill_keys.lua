-- Copies the orders of idempotency keys from the database while Redis lacks some keys.
-- KEYS     the orders of each idempotency key
-- ARGV     the epoch; the field up to which all keys are there after this call (empty: as before);
--          whether all are there after this call (1 or 0); then per key '<key> <buyer>' and
--          '<id> <product> <quantity>'
-- Returns  1; 0: it is another epoch, or all keys were there; nothing was changed
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
