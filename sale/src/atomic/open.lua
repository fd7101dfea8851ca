-- Begins the sale from a stock that was made from the database.
-- KEYS     the product's stock, the copy of what is left for readers
-- ARGV     its incarnation, units left, whether units are counted by buyer: 0 no, 1 yes, 2 yes, but those
--          of earlier stocks have to be learned from the database yet (fill.lua)
-- Returns  1; 0: it is not the one that was begun (stop.lua), nothing was done
if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'available', ARGV[2], 'sold', 0, 'given', ARGV[2], 'fence', ARGV[1],
  'limited', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2])
return 1
