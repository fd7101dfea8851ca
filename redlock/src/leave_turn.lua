-- Tells this node the client's lowest ticket that is still waiting, or that none is.
-- KEYS     the queue (client by its lowest ticket), the clients' time limits
-- ARGV     client, the ticket (0: none), time limit in ms
-- Returns  1
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
  redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3], ARGV[1])
end
return 1
