-- Decides purchases of one product in their order: takes the units, and appends the orders, as one
-- entry, to the stream from which they are recorded in the database.
-- KEYS     the product's stock, the copy of the remaining units for readers, the stream of orders, the
--          units of each buyer and of each limit key, the orders of each idempotency key
-- ARGV     the stock's incarnation, the product, its limit per buyer (0: none), the most orders that
--          may wait in the stream, the number of purchases, the number of checked purchases (the first
--          ones: the database has no order with their key), the epoch of the keys in which they were
--          checked; the price of a unit, '<amount> <currency>' ('0': none); whether purchases have limit keys (1 or
--          0); then of all purchases '<key> <buyer>' (' <buyer>': no key); of all the order
--          '<id> <product> <quantity>'; of all the quantity; with limit keys, of all the limit key (empty: none)
-- Returns  0: the stock has another incarnation, or its count by buyer is not numeric and was marked
--          invalid; nothing was sold. 1: too many orders wait; nothing was changed. Otherwise
--          {remaining units, the entry's id (empty: nothing was sold), then for each purchase that was
--          not sold its number and the reason}
--   reason   2 sold out; 3 limit reached; 4 the key belongs to another purchase; 5 the database must be
--            asked for the key's order or the buyer's units (fill.lua); a string: the earlier order of
--            the key
-- All decisions precede the first write, because Redis undoes nothing. If Redis refuses writes, for
-- lack of memory or because a key has another type, it refuses the first one, which appends the
-- orders: so an error means that nothing was changed. Calls of Redis are few, because one costs more
-- than everything else that a purchase needs here.
local stock, copy, stream, bought, keys = unpack(KEYS)
local incarnation, product, limit, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local count, checked = tonumber(ARGV[5]), tonumber(ARGV[6])
local args, by_person = 9, ARGV[9] == '1'
local found = redis.call('HMGET', stock, 'incarnation', 'available', 'sold', 'limited', 'waiting')
local available, sold, limited = tonumber(found[2] or ''), tonumber(found[3] or ''), found[4]
if found[1] ~= incarnation or not available or not sold then
  return 0
end
local earlier = redis.call('HMGET', keys, '', 'epoch', unpack(ARGV, args + 1, args + count))
-- Units are counted by buyer only where there is a limit.
if limit > 0 and limited ~= '1' and limited ~= '2' or not earlier[1] and not earlier[2] then
  return 0
end
-- Keys and buyers missing in Redis may be in the database.
local all_keys, all_buyers = earlier[1], limited ~= '2'
if earlier[2] ~= ARGV[7] then
  checked = 0
end
local waiting = tonumber(found[5] or '0')
if waiting >= most then
  return 1
end

-- The names under which units are counted: those of buyers, then those of persons.
local buyers, persons, names, has = {}, {}, {}, {}
if limit > 0 then
  for i = 1, count do
    -- A key has no spaces.
    buyers[i] = string.match(ARGV[args + i], ' (.*)$')
    names[i] = buyers[i]
  end
  if by_person then
    for i = 1, count do
      local key = ARGV[args + 3 * count + i]
      persons[i] = key ~= '' and key or nil
      names[#names + 1] = persons[i]
    end
  end
  for i, units in ipairs(redis.call('HMGET', bought, unpack(names))) do
    units = tonumber(units or (all_buyers and '0' or '-1'))
    if not units then
      -- A unit count is not numeric: the stock is rebuilt with new counts, as after a change of the
      -- limit.
      redis.call('HSET', stock, 'limited', 0)
      return 0
    end
    -- A replica of an earlier version subtracts units from a buyer who is missing here.
    has[names[i]] = (all_buyers or units >= 0) and units or nil
  end
end

local reply, orders, known, keyed, counted, limits = { 0, '' }, {}, {}, {}, {}, {}
for i = 1, count do
  local field, order = ARGV[args + i], ARGV[args + count + i]
  local quantity = tonumber(ARGV[args + 2 * count + i])
  local has_key = string.byte(field) ~= 32
  local before, why = earlier[i + 2] or known[field], nil
  local buyer, person = buyers[i], persons[i]
  if before then
    local id, of, units = string.match(before, '^(%S+) (%S+) (%d+)$')
    why = (of == product and tonumber(units) == quantity) and id or 4
  elseif has_key and not all_keys and i > checked then
    why = 5
  elseif quantity > available then
    why = 2
  elseif limit > 0 and (not has[buyer] or person and not has[person]) then
    why = 5
  elseif limit > 0 and (has[buyer] + quantity > limit or person and has[person] + quantity > limit) then
    why = 3
  else
    available, sold, waiting = available - quantity, sold + quantity, waiting + 1
    orders[#orders + 1] = field
    orders[#orders + 1] = order
    if by_person then
      limits[#limits + 1] = ARGV[args + 3 * count + i]
    end
    if has_key then
      known[field] = order
      keyed[#keyed + 1] = field
      keyed[#keyed + 1] = order
    end
    if limit > 0 then
      has[buyer] = has[buyer] + quantity
      counted[#counted + 1] = buyer
      counted[#counted + 1] = has[buyer]
      if person then
        has[person] = has[person] + quantity
        counted[#counted + 1] = person
        counted[#counted + 1] = has[person]
      end
    end
  end
  if why then
    reply[#reply + 1] = i
    reply[#reply + 1] = why
  end
end

if #orders > 0 then
  local entry = { 'incarnation', incarnation, 'orders', table.concat(orders, '\0'), 'price', ARGV[8] }
  if by_person then
    -- A replica that would lose the limit keys leaves the entry to others.
    reply[2] = redis.call('XADD', stream, '*', 'version', 3, 'limits', table.concat(limits, '\0'), unpack(entry))
  else
    reply[2] = redis.call('XADD', stream, '*', 'version', 2, unpack(entry))
  end
  redis.call('HSET', stock, 'available', available, 'sold', sold, 'waiting', waiting)
  redis.call('SET', copy, available)
  if #keyed > 0 then
    redis.call('HSET', keys, unpack(keyed))
  end
  if #counted > 0 then
    redis.call('HSET', bought, unpack(counted))
  end
  -- Sales without a limit are not counted by buyer, so a later limit needs new counts.
  if limit == 0 and limited ~= '0' then
    redis.call('HSET', stock, 'limited', 0)
  end
end
reply[1] = available
return reply
