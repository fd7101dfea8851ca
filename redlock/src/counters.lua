-- Stands before scripts that read counters (tokens, tickets, epochs). A script that finds something
-- else where a counter should be changes nothing and says so: its client repairs the node
-- (repair.lua), which has no vote until then. The scripts that every purchase calls do the same
-- without these functions, which would cost them time.

-- Lua's numbers are exact up to twice this, 2^52. A counter never gets here by counting.
local HIGHEST = 4503599627370496

-- The counter that this text is; nil: it is none.
local function counter_of(text)
  local value = tonumber(text)
  if value and value >= 0 and value <= HIGHEST then
    return value
  end
end

local function damaged(key)
  return redis.error_reply('DAMAGED ' .. key .. ' is no counter')
end

