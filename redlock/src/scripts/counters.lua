-- Functions for scripts that read counters (tokens, tickets, epochs); prepended to their text. A
-- script that finds a counter with another content changes nothing and returns an error. The client
-- then repairs the node (repair.lua), which has no vote until then. The scripts that every purchase
-- calls contain these checks themselves, because a function call would cost them time.

-- 2^52. Lua's numbers are exact up to twice this. Counting never gets this far.
local HIGHEST = 4503599627370496

-- The counter that this text stands for; nil if it is no counter.
local function counter_of(text)
  local value = tonumber(text)
  if value and value >= 0 and value <= HIGHEST then
    return value
  end
end

local function damaged(key)
  return redis.error_reply('DAMAGED ' .. key .. ' is no counter')
end

