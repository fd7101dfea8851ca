-- Reads a product's state, after it removed keys with a wrong type or value: the product is then
-- rebuilt from the database. A claim without an expiry would last for ever, so it gets one.
-- KEYS     the product's stock, the units of each buyer, the stream of orders, the stream of refused
--          orders, the copy of the remaining units for readers, the orders of each idempotency key,
--          then the claims of replicas
-- ARGV     the longest time of a claim, in ms
-- Returns  {incarnation, remaining, sold, whether units are counted by buyer (each -1 if missing),
--          whether the idempotency keys are there (1 or 0), the removed keys, the fencing token of the
--          newest row that the stock was adjusted to (-1 if missing), whether the stream of orders is
--          empty (1 or 0)}
local stock, bought, stream, refused, copy, keys = unpack(KEYS)
local types = { 'hash', 'hash', 'stream', 'stream', 'string', 'hash' }
local removed = {}

local function remove(key)
  redis.call('UNLINK', key)
  removed[#removed + 1] = key
end

for i, key in ipairs(KEYS) do
  local is = redis.call('TYPE', key).ok
  if is ~= 'none' and is ~= (types[i] or 'string') then
    remove(key)
  elseif not types[i] and is ~= 'none' and redis.call('PTTL', key) < 0 then
    redis.call('PEXPIRE', key, ARGV[1])
  end
end

local found = redis.call('HMGET', stock, 'incarnation', 'available', 'sold', 'limited', 'given',
  'fence', 'waiting')
local is_damaged = false
for _, number in ipairs(found) do
  is_damaged = is_damaged or number and not string.match(number, '^%-?%d+$')
end
-- The stock's counters include the content of these keys.
for _, key in ipairs(removed) do
  is_damaged = is_damaged or (key == bought or key == stream) and found[1]
end
if is_damaged then
  remove(stock)
  found = {}
end

local epochs = redis.call('HMGET', keys, '', 'epoch')
if not epochs[1] and epochs[2] and not string.match(epochs[2], '^%x+%-%x+%-%x+%-%x+%-%x+$') then
  remove(keys)
  epochs = {}
end

local reply = {}
for i = 1, 4 do
  reply[i] = tonumber(found[i] or '-1')
end
reply[5] = (epochs[1] or epochs[2]) and 1 or 0
reply[6] = removed
reply[7] = tonumber(found[6] or '-1')
reply[8] = #redis.call('XRANGE', stream, '-', '+', 'COUNT', 1) == 0 and 1 or 0
return reply
