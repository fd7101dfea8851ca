-- Extends a lease on this node, if the owner has held it without a break.
-- KEYS     the membership, the floor (unused), then the locks
-- ARGV     epoch, owner, lease in ms, longest lease in ms (unused), the owner of the lease that renews
--          this one ('': none)
-- Returns  {time, vote}
--   time     this node's clock in microseconds
--   vote     1 extended; 0 a lock has another owner or none; -2 the epoch is over
-- A missing lock is never set again: another owner may have held it in between. A lock of the lease
-- that renews this one was this owner's until then (renew.lua); it is never shortened.
local time = redis.call('TIME')
local vote, renewed = 1, {}
if tonumber(ARGV[1]) < tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') then
  vote = -2
end
for i = 3, #KEYS do
  local holder = redis.pcall('GET', KEYS[i])
  renewed[i] = holder == ARGV[5] and holder ~= ''
  if holder ~= ARGV[2] and not renewed[i] then
    vote = 0
  end
end
if vote == 1 then
  for i = 3, #KEYS do
    if not renewed[i] or redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then
      redis.call('PEXPIRE', KEYS[i], ARGV[3])
    end
  end
end
return {time[1] * 1000000 + time[2], vote}
