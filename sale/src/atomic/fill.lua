-- Copies units by buyer from the database to a stock that lacks some of them.
-- KEYS     the product's stock, the units of each buyer
-- ARGV     the stock's incarnation; the buyer, in order of the names, up to which all are there after
--          this call (empty: as before); whether all are there after this call (1 or 0); then per buyer
--          the name and the units
-- Returns  1; 0: it is another stock, or it had all buyers; nothing was changed
-- Existing units count later sales and stay. Units below 0 were written by a replica of an earlier
-- version, which gave units back to a buyer that the stock lacked; the database includes them.
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
