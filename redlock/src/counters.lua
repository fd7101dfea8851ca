-- Stands before scripts that read counters (tokens, tickets, epochs). A script that finds something
-- else where a counter should be changes nothing and says so: its client repairs the node
-- (repair.lua), which has no vote until then.

-- Lua's numbers are exact up to twice this. A counter never gets here by counting.
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

-- The ms until this lock expires; -2: there is none. No holder writes a lock that does not expire. It
-- may still be a lease whose expiry was removed, so it lasts the longest lease from now on.
local function expiry_of(lock, longest)
  local left = redis.call('PTTL', lock)
  if left == -1 then
    redis.call('PEXPIRE', lock, longest)
    redis.call('PUBLISH', 'redlock:repaired', lock)
    return longest
  end
  return left
end

