-- Ends a hold on this node and publishes what the holder leaves behind.
-- KEYS     per resource: its lock, its value, the version of its value
-- ARGV     owner, client, channel, then per resource: its name, the token, the value ('' leaves it)
-- Returns  how many locks were the owner's and are free now
-- A value is kept only if no higher token wrote one here, so a late holder cannot turn it back.
-- Token 0 gives up a hold that had no quorum: it frees the locks and tells nobody.
local owner, client, channel = ARGV[1], ARGV[2], ARGV[3]
local freed = 0
for i = 1, (#ARGV - 3) / 3 do
  local lock, value_key, version_key = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local name, token, value = ARGV[3 * i + 1], tonumber(ARGV[3 * i + 2]), ARGV[3 * i + 3]
  if value ~= '' and token >= tonumber(redis.call('GET', version_key) or '0') then
    redis.call('SET', value_key, value)
    redis.call('SET', version_key, ARGV[3 * i + 2])
  end
  if redis.call('GET', lock) == owner then
    redis.call('DEL', lock)
    freed = freed + 1
  end
  if token > 0 then
    redis.call('PUBLISH', channel, client .. '\n' .. name .. '\n' .. ARGV[3 * i + 2] .. '\n' .. value)
  end
end
return freed
