-- Begins the sale of a stock that was rebuilt from the database.
-- KEYS     the product's stock, the copy of the remaining units for readers
-- ARGV     its incarnation, remaining units, whether units are counted by buyer: 0 no, 1 yes, 2 yes, but
--          units of earlier stocks must still be filled in (fill.lua)
-- Returns  1; 0: another incarnation was begun (stop.lua); nothing was changed
if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'available', ARGV[2], 'sold', 0, 'given', ARGV[2], 'fence', ARGV[1],
  'limited', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2])
return 1
