-- Puts a pseudonym in a buyer's place in a product's units of each buyer and in its refused orders.
-- KEYS     the units of each buyer, the stream of refused orders
-- ARGV     the buyer, the pseudonym
-- Returns  the number of places that had the buyer
-- The pseudonym may have units already: those from before a purchase that was under way.
local bought, refused = unpack(KEYS)
local buyer, pseudonym = unpack(ARGV)
local places = 0
local units = redis.call('HGET', bought, buyer)
if units then
  local others = redis.call('HGET', bought, pseudonym)
  if tonumber(units) and (not others or tonumber(others)) then
    redis.call('HINCRBY', bought, pseudonym, units)
  end
  redis.call('HDEL', bought, buyer)
  places = 1
end
for _, entry in ipairs(redis.call('XRANGE', refused, '-', '+')) do
  local id, fields = entry[1], entry[2]
  local is_theirs = false
  for i = 1, #fields, 2 do
    if fields[i] == 'buyer' and fields[i + 1] == buyer then
      fields[i + 1], is_theirs = pseudonym, true
    elseif fields[i] == 'key' then
      fields[i + 1] = ''
    end
  end
  if is_theirs then
    redis.call('XADD', refused, '*', unpack(fields))
    redis.call('XDEL', refused, id)
    places = places + 1
  end
end
return places
