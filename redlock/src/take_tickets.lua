-- Issues tickets on this node: places in the queue for a resource, in order of arrival.
-- KEYS     the membership, the floor (acquire.lua), the ticket counter, the queue (lines by their
--          lowest ticket), the lines' time limits
-- ARGV     epoch, line, the lowest ticket it has (0: none), how many it wants, the first that is
--          proposed, time limit in ms
-- Returns  {vote, first}
--   vote     1 issued; -2 the epoch is over
--   first    the first ticket issued here: the one proposed, or the next if that was issued before
-- They are the line's if a majority issues the same; no node issues one twice. Others are skipped.
local members, floor, tickets, queue, limits = unpack(KEYS)
local counter = counter_of(redis.call('GET', tickets) or redis.call('GET', floor) or '0')
if not counter then
  return damaged(tickets)
end
local line, place, first = ARGV[2], ARGV[3], tonumber(ARGV[5])
if tonumber(ARGV[1]) < tonumber(redis.call('HGET', members, 'epoch') or '0') then
  return {-2, 0}
end
first = math.max(first, counter + 1)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', tickets, string.format('%.0f', first + ARGV[4] - 1))
redis.call('ZADD', queue, place == '0' and first or place, line)
redis.call('ZADD', limits, now + ARGV[6], line)
return {1, first}
