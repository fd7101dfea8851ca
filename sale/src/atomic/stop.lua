-- Ends the sale of a stock that will be rebuilt.
-- KEYS     the product's stock
-- ARGV     the next incarnation: the fencing token under which the stock is rebuilt
-- Returns  1; 0: a later incarnation was begun; nothing was changed
local later = tonumber(redis.call('HGET', KEYS[1], 'incarnation') or '0')
if later > tonumber(ARGV[1]) then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1])
return 1
