-- Stands before scripts that work on many keys: one call for all of them costs a fraction of a
-- call for each. Lua passes a few thousand values to a call, so there may have to be several.
local MOST = 4000

-- The values of these of the KEYS.
local function read(first, last)
  if last < first then
    return {}
  end
  if last - first < MOST then
    return redis.call('MGET', unpack(KEYS, first, last))
  end
  local values, rest = read(first, first + MOST - 1), read(first + MOST, last)
  for i = 1, #rest do
    values[MOST + i] = rest[i]
  end
  return values
end

-- The sum of what the command answers.
local function call_for_all(command, arguments, first)
  local sum = 0
  for from = first, #arguments, MOST do
    local answer = redis.call(command, unpack(arguments, from, math.min(from + MOST - 1, #arguments)))
    sum = sum + (tonumber(answer) or 0)
  end
  return sum
end

