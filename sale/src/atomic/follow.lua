-- Brings a stock to what the database gave it, whatever was sold or changed by hand meanwhile.
-- KEYS     the product's stock, the copy of what is left for readers
-- ARGV     its incarnation, the units that the database gave it in all (left there, and recorded as
--          sold), the fencing token of that row
-- Returns  {left before, left now, drift, short, waiting}; nothing: it is not that stock
--   drift  by how much what was left was wrong: a sale moves units from left to sold, so their sum
--          only changes with what is given
--   short  units sold beyond what was given
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
-- An older row knows less than what was given since.
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
