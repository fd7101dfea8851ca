-- Reduces a buyer's count by units that the database gave back.
-- KEYS     the product's stock, the units of each buyer
-- ARGV     the incarnation that counted the buyer's units before the database gave them back (empty:
--          none did); the buyer; the units
-- Returns  1; 0: it is another stock
-- A stock that counted the buyer later may have read the database before or after the return. Its
-- count by buyer is marked invalid, so it is rebuilt from the database before the next purchase with a
-- limit.
local stock, bought = unpack(KEYS)
local incarnation, limited = unpack(redis.call('HMGET', stock, 'incarnation', 'limited'))
local units = redis.call('HGET', bought, ARGV[2])
if incarnation == ARGV[1] and tonumber(units or '') then
  redis.call('HINCRBY', bought, ARGV[2], -ARGV[3])
  return 1
end
if units and limited then
  redis.call('HSET', stock, 'limited', 0)
end
return 0
