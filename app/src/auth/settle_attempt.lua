-- Ends an attempt that was charged: gives it back to its budgets.
-- KEYS     as in charge_attempt.lua
-- ARGV     as in charge_attempt.lua; then whether the attempt succeeded (1 or 0), and for how many ms the set of exempt
--          members stays after that
-- Returns  1
-- After a success the first budget is full, and the member is exempt from the last one.
local most, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local exempt, succeeded = ARGV[3 + 3 * count], ARGV[4 + 3 * count] == '1'
local is_exempt = exempt ~= '' and redis.call('ZSCORE', KEYS[count + 1], exempt)
for i = 1, count do
  local member, refill = ARGV[3 * i], tonumber(ARGV[3 * i + 2])
  local full_at = redis.call('ZSCORE', KEYS[i], member)
  if succeeded and i == 1 then
    redis.call('ZREM', KEYS[i], member)
  elseif full_at and not (is_exempt and i == count) then
    redis.call('ZADD', KEYS[i], tonumber(full_at) - refill, member)
  end
end
if exempt ~= '' and succeeded then
  local time = redis.call('TIME')
  local known = KEYS[count + 1]
  redis.call('ZADD', known, time[1], exempt)
  if redis.call('ZCARD', known) > most then
    redis.call('ZREM', known, unpack(redis.call('ZRANGE', known, 0, 7)))
  end
  redis.call('PEXPIRE', known, ARGV[5 + 3 * count])
end
return 1
