-- Ends the sale of a stock that will be rebuilt, and forgets what will be read from the database.
-- KEYS     the product's stock, the units of each buyer; if the database lost orders, the orders of each
--          idempotency key: they may lead to lost ones
-- ARGV     the next incarnation: the fencing token under which the stock is rebuilt
-- Returns  1; 0: a later incarnation was begun; nothing was changed
-- All keys change in one step, so a call that is carried out late takes nothing from a later stock.
local later = tonumber(redis.call('HGET', KEYS[1], 'incarnation') or '0')
if later > tonumber(ARGV[1]) then
  return 0
end
redis.call('DEL', KEYS[1])
for i = 2, #KEYS do
  -- In the background: they may be large.
  redis.call('UNLINK', KEYS[i])
end
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1])
return 1
