-- Removes a slot from the queue.
-- KEYS     the queue (slots by their lowest ticket), the slots' time limits
-- ARGV     slot
-- Returns  1
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
