-- Repairs keys of this node with a content that the lock does not write. A node whose counters or
-- membership were damaged has forgotten them, so its admission is removed, as if it had been wiped.
-- KEYS     the membership, the admitted process, the floor, then for each resource its fence, its
--          ticket counter, its queue, the slots' time limits, the slots' requests
-- ARGV     whether the membership and the admission are damaged (1 or 0 each), then for each resource
--          the highest token and the highest ticket that the client knows
-- Returns  the keys that were damaged
-- Waiting clients repeat what the queues contain, so queues are removed even if only their entries
-- can be damaged.
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
