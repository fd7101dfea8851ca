-- Finds the first and last entry of streams.
-- KEYS     streams of orders
-- Returns  for each stream {the id of its first entry, the id of its last, the id of the first order in
--          its first entry (empty: it has none that can be read)}; three empty ids: it is empty
local function first_order(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'orders' then
      -- A field and a value for each order, separated by NUL; the value begins with the id.
      return string.match(fields[i + 1], '%z(%x+%-%x+%-%x+%-%x+%-%x+) ') or ''
    end
  end
  return ''
end

local ends = {}
for i, stream in ipairs(KEYS) do
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  ends[i] = { first and first[1] or '', last and last[1] or '', first and first_order(first[2]) or '' }
end
return ends
