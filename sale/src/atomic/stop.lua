-- Ends the sale from a stock that will be made anew.
-- KEYS     the product's stock
-- ARGV     the incarnation to come: the fencing token under which it is made
-- Returns  1; 0: a later one was begun, nothing was done
local later = tonumber(redis.call('HGET', KEYS[1], 'incarnation') or '0')
if later > tonumber(ARGV[1]) then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1])
return 1
