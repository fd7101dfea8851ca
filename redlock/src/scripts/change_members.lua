-- Writes a membership on behalf of the client that changes it.
-- KEYS     the membership, the fence of the lock that guards it
-- ARGV     epoch, nodes, joining
-- Returns  the epoch after the call; the given one if it was written now or before
-- Epochs are 2t and 2t + 1 for the fencing token t of the change. The node refuses a change whose
-- lock was granted to another client since.
local epoch, here = tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch > here and math.floor(epoch / 2) >= tonumber(redis.call('GET', KEYS[2]) or '0') then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'nodes', ARGV[2], 'joining', ARGV[3])
  here = epoch
end
return here
