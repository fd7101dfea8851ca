-- Ends a hold on this node, grants each resource to the first that waits for it, and tells what
-- the holder leaves behind.
-- KEYS     the membership, then the locks of the resources, then the versions of their values, then
--          their values, then their queues (lines by their place)
-- ARGV     owner, channel, the line that it asked in, the place of the line from now on (0: it
--          leaves; '': as it is; -n: as it is, but it leaves if that is below n), the line's time
--          limit in ms, whether it gives up (1) or held them (0), what the line asks for now (epoch,
--          owner, lease and time limit of the request in ms; '': nothing), then per resource: the
--          token (if it gives up, the highest that it knows of), the value ('' leaves it, a NUL
--          removes it)
-- Returns  how many locks were the owner's and are not any more
-- A value is kept only if no higher token wrote one here, so a late holder cannot turn it back.
-- Whoever gives up a request had no quorum: nobody is told that it ended.
-- A request is granted as if it came now: under the epoch that it came under, with a token above
-- the fence. Whoever asked holds the resource when a majority granted it the same token. It leaves
-- the queue, and says its place when the hold ends.
local HIGHEST = 4503599627370496
local members, owner, channel = KEYS[1], ARGV[1], ARGV[2]
local line, place, limit, gives_up = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
local asks = {}
for word in ARGV[7]:gmatch('%S+') do
  asks[#asks + 1] = word
end
local resources = (#KEYS - 1) / 4
local locks, versions, names, queues = 1, 1 + resources, 1 + 2 * resources, 1 + 3 * resources

local function leave(queue, limits, name)
  if redis.call('ZREM', queue, name) == 1 then
    redis.call('ZREM', limits, name)
  end
end

-- Nothing is granted any more to one that has given up, or got it from other nodes.
local function take_back(queue, limits, requests, now)
  local request = redis.call('HGET', requests, line)
  if request then
    local _, asked_by, _, _, fair = cmsgpack.unpack(request)
    if asked_by == owner or asked_by == '' then
      redis.call('HDEL', requests, line)
      if fair == '0' then
        leave(queue, limits, line)
      end
    end
  end
  if place == '0' then
    leave(queue, limits, line)
  elseif place:sub(1, 1) == '-' then
    if tonumber(redis.call('ZSCORE', queue, line) or '0') < -tonumber(place) then
      leave(queue, limits, line)
    end
  elseif place ~= '' then
    redis.call('ZADD', queue, place, line)
    redis.call('ZADD', limits, now + limit, line)
  end
end

-- As acquire_in_turn.lua leaves it.
local function ask(requests, now)
  local epoch, asked_by, lease, request_limit = unpack(asks)
  if epoch then
    local provisional = math.min(tonumber(lease), tonumber(limit))
    local request = cmsgpack.pack(epoch, asked_by, provisional, now + request_limit, '1')
    redis.call('HSET', requests, line, request)
  end
end

-- Answers the new owner, its token and the next place in fair order. '': it is nobody's; '-': it is
-- left to one that waits for other resources too.
local function grant(lock, fence, queue, limits, requests, token, now)
  local lines = redis.call('ZRANGE', queue, 0, 1, 'WITHSCORES')
  local counter = lines[1]
    and tonumber(redis.pcall('GET', fence) or redis.call('GET', 'redlock:floor') or '0')
  -- Where it is no counter, whoever asks is told of the damage.
  if not (counter and counter >= 0 and counter <= HIGHEST) then
    return '', '0', '0'
  end

  -- The first two in fair order. Their places are tickets, and those of the others are negative.
  local function in_fair_order()
    if tonumber(lines[2]) < 0 then
      return redis.call('ZRANGEBYSCORE', queue, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
    end
    return lines
  end

  -- The request of the first of these, if it still stands: its owner and its lease.
  local function request_of(first)
    local request = first[1] and redis.call('HGET', requests, first[1])
    if request then
      local epoch, next_owner, lease, request_limit = cmsgpack.unpack(request)
      local here = tonumber(redis.call('HGET', members, 'epoch') or '0')
      if tonumber(epoch) >= here and request_limit >= now then
        return next_owner, lease
      end
    end
  end

  -- The same on all nodes, even if their fences differ.
  local next_token = math.max(counter, tonumber(token)) + 1
  -- For those in fair order, if any wait: half of all tokens, in no pattern that releases could follow
  -- (the golden ratio).
  local is_fair_turn = next_token % 65536 * 0.6180339887498949 % 1 < 0.5
  local first = is_fair_turn and in_fair_order() or lines
  local next_owner, lease = request_of(first)
  if not next_owner then
    -- Nobody of that kind waits, or the first is not heard of.
    first = is_fair_turn and lines or in_fair_order()
    next_owner, lease = request_of(first)
  end
  if not next_owner then
    return '', '0', '0'
  end
  if next_owner == '' then
    return '-', '0', '0'
  end
  next_token = string.format('%.0f', next_token)
  redis.call('SET', lock, next_owner, 'PX', lease)
  redis.call('SET', fence, next_token)
  redis.call('HDEL', requests, first[1])
  leave(queue, limits, first[1])
  return next_owner, next_token, first[4] or '0'
end

-- The owners, the versions.
local present = read(1 + locks, versions + resources)
local left, own, freed = {}, {}, {}
for i = 1, resources do
  local token, value = ARGV[2 * i + 6], ARGV[2 * i + 7]
  local version = tonumber(present[resources + i] or '0')
  -- What is no version is older than any.
  if value ~= '' and not (version and version <= HIGHEST and version > tonumber(token)) then
    local next = #left
    left[next + 1], left[next + 2] = KEYS[names + i], value
    left[next + 3], left[next + 4] = KEYS[versions + i], token
  end
  if present[i] == owner then
    own[i] = true
    freed[#freed + 1] = KEYS[locks + i]
  end
end
-- First: a node that has no room for anything else frees what was held.
call_for_all('DEL', freed, 1)
call_for_all('MSET', left, 1)
for i = 2, #left, 4 do
  if left[i] == '\0' then
    redis.call('DEL', left[i - 1])
  end
end

-- Whoever asked for something is in a queue: where there is none, nothing is left to do.
local micros, new_owners = 0, {}
if place ~= '' and place ~= '0' or call_for_all('EXISTS', KEYS, 1 + queues) > 0 then
  local time = redis.call('TIME')
  micros = time[1] * 1000000 + time[2]
  local now = math.floor(micros / 1000)
  for i = 1, resources do
    local queue, name = KEYS[queues + i], KEYS[names + i]
    local limits, requests = 'queue-limits:' .. name, 'queue-requests:' .. name
    take_back(queue, limits, requests, now)
    ask(requests, now)
    -- Whoever left the queue may have kept others waiting without holding anything.
    if own[i] or not present[i] then
      new_owners[i] = {
        grant(KEYS[locks + i], 'fence:' .. name, queue, limits, requests, ARGV[2 * i + 6], now)
      }
    end
  end
elseif gives_up or redis.call('PUBSUB', 'NUMSUB', channel)[2] <= 1 then
  -- The only one that listens is who knows already: each client hears the channel over the
  -- connection that it calls from.
  return #freed
end
local notices = {}
micros = string.format('%.0f', micros)
for i = 1, resources do
  local new = new_owners[i] or { '', '0', '0' }
  if not gives_up or new[1] ~= '' then
    local token = gives_up and '0' or ARGV[2 * i + 6]
    local notice = KEYS[names + i] .. '\n' .. token .. '\n' .. new[1] .. '\n' .. new[2] .. '\n'
      .. new[3] .. '\n' .. micros .. '\n' .. ARGV[2 * i + 7]
    local next = #notices
    notices[next + 1], notices[next + 2] = #notice .. ':', notice
  end
end
if #notices > 0 then
  redis.call('PUBLISH', channel, table.concat(notices))
end
return #freed
