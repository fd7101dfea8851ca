-- Removes entries from the stream whose orders the database has, or cannot take. Refused orders are
-- set aside, and their units given back.
-- KEYS     the product's stock, the stream of orders, the stream of refused orders
-- ARGV     the orders' incarnation, the number of entries; then per entry its id and its number of
--          orders; then per refused order its entry's id, its own id, buyer, quantity, key
-- Returns  the number of removed entries; other replicas removed the rest
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
  -- follow.lua derives the remaining units from these.
  if units > 0 then
    redis.call('HINCRBY', stock, 'sold', -units)
    redis.call('HINCRBY', stock, 'given', -units)
  end
end
return entries
