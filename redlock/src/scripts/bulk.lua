-- Functions for scripts that work on many keys; prepended to their text. One call for all keys costs
-- a fraction of one call each. Lua passes a few thousand values to a call, so longer lists are split.
local MAX_VALUES = 4000

-- The values of the KEYS from first to last.
local function read(first, last)
  if last < first then
    return {}
  end
  if last - first < MAX_VALUES then
    return redis.call('MGET', unpack(KEYS, first, last))
  end
  local values, rest = read(first, first + MAX_VALUES - 1), read(first + MAX_VALUES, last)
  for i = 1, #rest do
    values[MAX_VALUES + i] = rest[i]
  end
  return values
end

-- Calls the command with all arguments and returns the sum of its results.
local function call_for_all(command, arguments, first)
  local sum = 0
  for from = first, #arguments, MAX_VALUES do
    local result = redis.call(command, unpack(arguments, from, math.min(from + MAX_VALUES - 1, #arguments)))
    sum = sum + (tonumber(result) or 0)
  end
  return sum
end

