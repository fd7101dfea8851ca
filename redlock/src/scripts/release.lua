-- Ends a lease on this node, grants each resource to its first waiter, and publishes the value that
-- the holder leaves behind.
-- KEYS     the membership, then for all resources the locks, the versions of the values, the values,
--          the queues (slots by rank)
-- ARGV     owner, channel, the slot of the lease, its place from now on (0: it leaves the queue; '':
--          unchanged; -n: unchanged, but it leaves if its rank is below n), the time limit of a slot
--          in ms, whether the round is given up (1) or the lease ends (0), the slot's next request
--          (epoch, owner, lease and time limit of a request in ms; '': none), then for each resource
--          the token (given up: the highest known one), the highest known token, and the value ('' keeps
--          it, a NUL removes it)
-- Returns  the number of locks that were the owner's and are free now
-- A value is written only if no higher token wrote one before, so a late holder cannot revert it.
-- A round that is given up had no quorum, so its end is not published.
-- A lease that was renewed (renew.lua) no longer has the lock: only its value is stored and published.
-- A request is granted as if it arrived now: under its own epoch, with a token above the fence. Its
-- owner holds the resource when a majority granted the same token. Its slot leaves the queue, and
-- its next release says the place of the slot.
local HIGHEST = 4503599627370496
local members, owner, channel = KEYS[1], ARGV[1], ARGV[2]
local slot, after, slot_limit, gives_up = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
local next_request = {}
for word in ARGV[7]:gmatch('%S+') do
  next_request[#next_request + 1] = word
end
local resources = (#KEYS - 1) / 4
local locks, versions, names, queues = 1, 1 + resources, 1 + 2 * resources, 1 + 3 * resources

local function remove_from_queue(queue, limits, name)
  if redis.call('ZREM', queue, name) == 1 then
    redis.call('ZREM', limits, name)
  end
end

-- Withdraws the request of the slot, and moves the slot to its place from now on.
local function withdraw_request(queue, limits, requests, now)
  local request = redis.call('HGET', requests, slot)
  if request then
    local _, requester, _, _, fair = cmsgpack.unpack(request)
    if requester == owner or requester == '' then
      redis.call('HDEL', requests, slot)
      if fair == '0' then
        remove_from_queue(queue, limits, slot)
      end
    end
  end
  if after == '0' then
    remove_from_queue(queue, limits, slot)
  elseif after:sub(1, 1) == '-' then
    if tonumber(redis.call('ZSCORE', queue, slot) or '0') < -tonumber(after) then
      remove_from_queue(queue, limits, slot)
    end
  elseif after ~= '' then
    redis.call('ZADD', queue, after, slot)
    redis.call('ZADD', limits, now + slot_limit, slot)
  end
end

-- Stores the next request of the slot, as acquire_fair.lua does.
local function store_next_request(requests, now)
  local epoch, requester, lease, request_limit = unpack(next_request)
  if epoch then
    local provisional = math.min(tonumber(lease), tonumber(slot_limit))
    local request = cmsgpack.pack(epoch, requester, provisional, now + request_limit, '1')
    redis.call('HSET', requests, slot, request)
  end
end

-- Grants the resource to the first waiter. Returns the new owner, its token and the next ticket. The
-- owner is '' if nobody gets it, and '-' if it is reserved for a waiter that needs several resources.
local function grant_next(lock, fence, queue, limits, requests, token, now)
  local slots = redis.call('ZRANGE', queue, 0, 1, 'WITHSCORES')
  local counter = slots[1]
    and tonumber(redis.pcall('GET', fence) or redis.call('GET', 'redlock:floor') or '0')
  -- No counter: the next vote reports the damage.
  if not (counter and counter >= 0 and counter <= HIGHEST) then
    return '', '0', '0'
  end

  -- The first two slots in fair order. Their ranks are tickets; the other ranks are negative.
  local function in_fair_order()
    if tonumber(slots[2]) < 0 then
      return redis.call('ZRANGEBYSCORE', queue, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
    end
    return slots
  end

  -- The owner and the lease of the first slot's request, if it is still valid.
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

  -- The same on all nodes, even where their fences differ.
  local next_token = math.max(counter, tonumber(token)) + 1
  -- Half of all tokens go to fair slots first. The golden ratio spreads them so that no pattern of
  -- releases can miss them.
  local is_fair_turn = next_token % 65536 * 0.6180339887498949 % 1 < 0.5
  local first = is_fair_turn and in_fair_order() or slots
  local next_owner, lease = request_of(first)
  if not next_owner then
    -- No slot of that kind waits, or the request of the first is over.
    first = is_fair_turn and slots or in_fair_order()
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
  remove_from_queue(queue, limits, first[1])
  return next_owner, next_token, first[4] or '0'
end

-- The owners, the versions.
local present = read(1 + locks, versions + resources)
local values, own, freed = {}, {}, {}
for i = 1, resources do
  local token, value = ARGV[3 * i + 5], ARGV[3 * i + 7]
  local version = tonumber(present[resources + i] or '0')
  -- A version that is no counter counts as older than any.
  if value ~= '' and not (version and version <= HIGHEST and version > tonumber(token)) then
    local next = #values
    values[next + 1], values[next + 2] = KEYS[names + i], value
    values[next + 3], values[next + 4] = KEYS[versions + i], token
  end
  if present[i] == owner then
    own[i] = true
    freed[#freed + 1] = KEYS[locks + i]
  end
end
-- Frees the locks first: a node that is out of memory still accepts this.
call_for_all('DEL', freed, 1)
call_for_all('MSET', values, 1)
for i = 2, #values, 4 do
  if values[i] == '\0' then
    redis.call('DEL', values[i - 1])
  end
end

-- Every request is in a queue. Without a queue there is nothing to grant.
local micros, new_owners = 0, {}
if after ~= '' and after ~= '0' or call_for_all('EXISTS', KEYS, 1 + queues) > 0 then
  local time = redis.call('TIME')
  micros = time[1] * 1000000 + time[2]
  local now = math.floor(micros / 1000)
  for i = 1, resources do
    local queue, name = KEYS[queues + i], KEYS[names + i]
    local limits, requests = 'queue-limits:' .. name, 'queue-requests:' .. name
    withdraw_request(queue, limits, requests, now)
    store_next_request(requests, now)
    -- A slot without the lock may have blocked the queue until it left.
    if own[i] or not present[i] then
      new_owners[i] = {
        grant_next(KEYS[locks + i], 'fence:' .. name, queue, limits, requests, ARGV[3 * i + 6], now)
      }
    end
  end
elseif gives_up or redis.call('PUBSUB', 'NUMSUB', channel)[2] <= 1 then
  -- The only subscriber is the caller, which knows already: each client subscribes over the connection
  -- that it calls from.
  return #freed
end
local notices = {}
micros = string.format('%.0f', micros)
for i = 1, resources do
  -- '+': another lease has the resource.
  local new = new_owners[i] or { present[i] and not own[i] and '+' or '', '0', '0' }
  if not gives_up or new_owners[i] and new[1] ~= '' then
    local token = gives_up and '0' or ARGV[3 * i + 5]
    local notice = KEYS[names + i] .. '\n' .. token .. '\n' .. new[1] .. '\n' .. new[2] .. '\n'
      .. new[3] .. '\n' .. micros .. '\n' .. ARGV[3 * i + 7]
    local next = #notices
    notices[next + 1], notices[next + 2] = #notice .. ':', notice
  end
end
if #notices > 0 then
  redis.call('PUBLISH', channel, table.concat(notices))
end
return #freed
