-- Begins an epoch of the idempotency keys, unless they are there: the database has those of all
-- products.
-- KEYS     the orders of each idempotency key
-- ARGV     the mark that was there before the last orders were recorded, the epoch
-- Returns  1: they are there; 0: they were there since and are lost again, so orders with such keys may
--          not be recorded yet; nothing was begun
-- A mark is removed with the keys, and when an epoch begins.
local found = redis.call('HMGET', KEYS[1], '', 'epoch', 'lost')
if found[1] or found[2] then
  return 1
end
if found[3] ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
redis.call('HDEL', KEYS[1], 'lost')
return 1
