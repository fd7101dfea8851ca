-- Tells this node that nobody waits in a line any more.
-- KEYS     the queue (lines by their lowest ticket), the lines' time limits
-- ARGV     line
-- Returns  1
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
