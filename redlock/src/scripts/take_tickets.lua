-- Issues tickets: places in the queue of a resource, in order of arrival.
-- KEYS     the membership, the floor (acquire.lua), the ticket counter, the queue (slots by their
--          lowest ticket), the slots' time limits
-- ARGV     epoch, slot, its lowest ticket (0: none), the number of tickets, the first proposed
--          ticket, the time limit of a slot in ms
-- Returns  {vote, first}
--   vote     1 issued; -2 the epoch is over
--   first    the first ticket issued here: the proposed one, or the next if that was issued before
-- The slot owns the tickets if a majority issued the same. No node issues a ticket twice; the others
-- are skipped.
local members, floor, tickets, queue, limits = unpack(KEYS)
local counter = counter_of(redis.call('GET', tickets) or redis.call('GET', floor) or '0')
if not counter then
  return damaged(tickets)
end
local slot, lowest, first = ARGV[2], ARGV[3], tonumber(ARGV[5])
if tonumber(ARGV[1]) < tonumber(redis.call('HGET', members, 'epoch') or '0') then
  return {-2, 0}
end
first = math.max(first, counter + 1)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', tickets, string.format('%.0f', first + ARGV[4] - 1))
redis.call('ZADD', queue, lowest == '0' and first or lowest, slot)
redis.call('ZADD', limits, now + ARGV[6], slot)
return {1, first}
