-- Adjusts a stock to the units that the database gave it, and repairs changes by hand.
-- KEYS     the product's stock, the copy of the remaining units for readers
-- ARGV     its incarnation, the units that the database gave it in total (remaining there plus recorded
--          as sold), the fencing token of that row
-- Returns  {remaining before, remaining now, drift, short, waiting}; nothing: it is another stock
--   drift    the error of the remaining units: a sale moves units from remaining to sold, so their sum
--            changes only with the given units
--   short    units sold beyond the given ones
--   waiting  orders that wait to be recorded
local stock, copy = KEYS[1], KEYS[2]
local found = redis.call('HMGET', stock, 'incarnation', 'available', 'sold', 'given', 'fence', 'waiting')
local before, sold, given, fence =
  tonumber(found[2] or ''), tonumber(found[3] or ''), tonumber(found[4] or ''), tonumber(found[5] or '0')
if found[1] ~= ARGV[1] or not before or not sold or not given then
  return {}
end
local drift = before + sold - given
local newest = tonumber(ARGV[3])
-- An older row misses units that were given later.
local goal = newest >= fence and tonumber(ARGV[2]) or given
local available = math.max(goal - sold, 0)
local short = available + sold - goal
if available ~= before or available + sold ~= given or newest > fence then
  redis.call('HSET', stock, 'available', available, 'given', available + sold,
    'fence', math.max(newest, fence))
end
if redis.call('GET', copy) ~= tostring(available) then
  redis.call('SET', copy, available)
end
return { before, available, drift, short, tonumber(found[6] or '0') }
