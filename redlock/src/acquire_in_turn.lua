-- Votes on this node for the client whose turn it is.
-- KEYS     the lock, its fence, the queue (client by its lowest ticket), the clients' time limits
-- ARGV     owner, lease in ms, the proposed token, client, its lowest ticket, time limit in ms
-- Returns  {vote, wait, counter, next}
--   vote     1 granted; 0 the lock is held or another's ticket is lower; -1 the token is too low
--   wait     ms until what is in the way expires (vote 0), else 0
--   counter  the fence after the call
--   next     the lowest ticket of another client (0: none): the holder may serve its own below it
-- A client that has not been heard of for its time limit, by this node's clock, is skipped.
local lock, fence, queue, limits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local client, ticket = ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZADD', queue, ticket, client)
redis.call('ZADD', limits, now + ARGV[6], client)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', limits, '-inf', now)) do
  redis.call('ZREM', queue, gone)
  redis.call('ZREM', limits, gone)
end
local first = redis.call('ZRANGE', queue, 0, 1, 'WITHSCORES')
local other, next_ticket = first[1], tonumber(first[2])
if other == client then
  other, next_ticket = first[3], tonumber(first[4] or '0')
end

local counter = tonumber(redis.call('GET', fence) or '0')
local ttl = redis.call('PTTL', lock)
if ttl ~= -2 then
  return {0, ttl, counter, next_ticket}
end
if other and next_ticket < ticket then
  return {0, tonumber(redis.call('ZSCORE', limits, other)) - now, counter, next_ticket}
end
if tonumber(ARGV[3]) <= counter then
  return {-1, 0, counter, next_ticket}
end
redis.call('SET', lock, ARGV[1], 'PX', ARGV[2])
redis.call('SET', fence, ARGV[3])
return {1, 0, tonumber(ARGV[3]), next_ticket}
