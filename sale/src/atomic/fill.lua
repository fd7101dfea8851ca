-- Takes over from the database how many units buyers have, in a stock in which not all are known yet.
-- KEYS     the product's stock, the units of each buyer
-- ARGV     the stock's incarnation; up to which buyer, in order of the names, all are known with these
--          (empty: as far as before); whether all are known with these (1 or 0); then per buyer the
--          name and the units
-- Returns  1; 0: it is another stock, or all were known, nothing was done
-- Units that are there count what was sold since, and stay. Those below 0 come from a replica of an
-- earlier version, which gave units back to a buyer who was not known yet: the database has that.
local stock, bought = unpack(KEYS)
local found = redis.call('HMGET', stock, 'incarnation', 'limited')
if found[1] ~= ARGV[1] or found[2] ~= '2' then
  return 0
end
for i = 4, #ARGV, 2 do
  if (tonumber(redis.call('HGET', bought, ARGV[i]) or '') or -1) < 0 then
    redis.call('HSET', bought, ARGV[i], ARGV[i + 1])
  end
end
if ARGV[3] == '1' then
  redis.call('HSET', stock, 'limited', 1)
  redis.call('HDEL', stock, 'filled')
elseif ARGV[2] ~= '' then
  redis.call('HSET', stock, 'filled', ARGV[2])
end
return 1
