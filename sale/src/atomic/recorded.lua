-- Takes entries off the stream whose orders the database has, or cannot take. The latter are put
-- aside, and their units given back.
-- KEYS     the product's stock, the stream of orders, the stream of those that were refused
-- ARGV     the orders' incarnation, how many entries there are; then per entry its id and how many
--          orders it has; then per order that was refused its entry's id, its own id, buyer, quantity,
--          key
-- Returns  how many entries were taken off; the rest another replica took
local stock, stream, refused = unpack(KEYS)
local incarnation, count = ARGV[1], tonumber(ARGV[2])
local orders = 2 + 2 * count
local taken, waited = {}, 0
local entries = 0
for i = 3, orders, 2 do
  if redis.call('XDEL', stream, ARGV[i]) == 1 then
    taken[ARGV[i]], waited, entries = true, waited + ARGV[i + 1], entries + 1
  end
end
local units = 0
for i = orders + 1, #ARGV, 5 do
  local entry, id, buyer, quantity, key = unpack(ARGV, i, i + 4)
  if taken[entry] then
    redis.call('XADD', refused, '*', 'id', id, 'buyer', buyer, 'quantity', quantity, 'key', key)
    units = units + quantity
  end
end
if redis.call('HGET', stock, 'incarnation') == incarnation then
  if waited > 0 then
    redis.call('HINCRBY', stock, 'waiting', -waited)
  end
  -- What is left follows from these (follow.lua).
  if units > 0 then
    redis.call('HINCRBY', stock, 'sold', -units)
    redis.call('HINCRBY', stock, 'given', -units)
  end
end
return entries
