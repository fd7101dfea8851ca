-- Charges one attempt to each of several budgets, or to none of them.
-- KEYS     per budget a sorted set of its members: until when each is not full (ms since 1970, by this node); then, if
--          a member may be exempt from the last budget, the set of exempt members
-- ARGV     the most members of a set; the number of budgets; per budget the member, its attempts, and the ms until one
--          is refilled; the member that may be exempt (empty: none)
-- Returns  0: charged. Otherwise the ms until there is an attempt; nothing was charged
-- A set never has more members than that: those whose budgets are full leave first, then the fullest.
local most, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local exempt = ARGV[3 + 3 * count]
if exempt ~= '' and redis.call('ZSCORE', KEYS[count + 1], exempt) then
  count = count - 1
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local budgets = {}
for i = 1, count do
  local member, attempts, refill = ARGV[3 * i], tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  local before = tonumber(redis.call('ZSCORE', KEYS[i], member) or now)
  -- Later than that only if the clock was set back: nobody waits for it.
  local full_at = math.min(math.max(before, now), now + attempts * refill) + refill
  local wait = full_at - now - attempts * refill
  if wait > 0 then
    return wait
  end
  budgets[i] = { member, full_at, attempts * refill }
end
for i, budget in ipairs(budgets) do
  redis.call('ZADD', KEYS[i], budget[2], budget[1])
  local full = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', now, 'LIMIT', 0, 8)
  if #full == 0 and redis.call('ZCARD', KEYS[i]) > most then
    full = redis.call('ZRANGE', KEYS[i], 0, 7)
  end
  if #full > 0 then
    redis.call('ZREM', KEYS[i], unpack(full))
  end
  redis.call('PEXPIRE', KEYS[i], budget[3])
end
return 0
