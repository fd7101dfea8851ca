-- Repairs keys of this node that hold something else than they should. A node whose counters or
-- membership were damaged has forgotten them: it is not admitted any more, as if it had been wiped.
-- KEYS     the membership, the process that was admitted, the floor, then per resource its fence, its
--          tickets, its queue, the lines' time limits, the lines' requests
-- ARGV     whether the membership and the process are damaged (1 or 0 each), then per resource the
--          highest token and the highest ticket that the client knows of
-- Returns  the keys that were damaged
-- Queues hold nothing that those who wait do not say again at once. They are removed also where
-- nothing else is wrong, since what is in them may be.
local members, admitted, floor = unpack(KEYS)
local found, forgot = {}, false

local function remove(key)
  redis.call('DEL', key)
  found[#found + 1] = key
end

local function repair_counter(key, known)
  local value = redis.pcall('GET', key)
  if value and (type(value) == 'table' or not (string.match(value, '^%d+$') and counter_of(value))) then
    remove(key)
    if tonumber(known) > 0 then
      redis.call('SET', key, known)
    end
    forgot = true
  end
end

for i, is_damaged in ipairs({ ARGV[1], ARGV[2] }) do
  if is_damaged == '1' then
    remove(KEYS[i])
    forgot = true
  end
end
repair_counter(floor, '0')
for i = 4, #KEYS, 5 do
  local known = 3 + 2 * (i - 4) / 5
  local before = #found
  repair_counter(KEYS[i], ARGV[known])
  repair_counter(KEYS[i + 1], ARGV[known + 1])
  for number, kind in ipairs({ 'zset', 'zset', 'hash' }) do
    local key = KEYS[i + 1 + number]
    local is = redis.call('TYPE', key).ok
    if is ~= kind and is ~= 'none' then
      remove(key)
    end
  end
  if #found == before then
    redis.call('DEL', KEYS[i + 2], KEYS[i + 3], KEYS[i + 4])
  end
end
if forgot then
  redis.call('DEL', admitted)
end
return found
