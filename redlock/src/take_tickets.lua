-- Issues tickets on this node: places in the queue for a resource, in order of arrival.
-- KEYS     the ticket counter, the queue (client by its lowest ticket), the clients' time limits
-- ARGV     client, the first ticket proposed, how many, time limit in ms
-- Returns  {vote, counter}
--   vote     1 issued; -1 the first is not above the counter
--   counter  the highest ticket issued here, after the call
local counter = tonumber(redis.call('GET', KEYS[1]) or '0')
local client, first = ARGV[1], tonumber(ARGV[2])
if first <= counter then
  return {-1, counter}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
counter = first + tonumber(ARGV[3]) - 1
redis.call('SET', KEYS[1], string.format('%.0f', counter))
redis.call('ZADD', KEYS[2], 'LT', first, client)
redis.call('ZADD', KEYS[3], now + ARGV[4], client)
return {1, counter}
