-- Finds the first and last entry of streams.
-- KEYS     streams of orders
-- Returns  for each stream {the id of its first entry, the id of its last}; two empty ids: it is empty
local ends = {}
for i, stream in ipairs(KEYS) do
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  ends[i] = { first and first[1] or '', last and last[1] or '' }
end
return ends
