-- A sign of life: the node's clock, its own keys, and whether it accepts writes.
-- KEYS     the membership, the admitted process, the floor, a key that never exists
-- Returns  {time, epoch, nodes, joining, admitted, refusal, damaged}
--   time      this node's clock in microseconds
--   epoch, nodes, joining   the membership ('0', '', '': none)
--   admitted  the run id of the admitted process ('': none)
--   refusal   why the node refuses writes ('': it accepts them)
--   damaged   the KEYS with a content that the lock does not write
local members, admitted, floor, nothing = unpack(KEYS)
local damaged_keys = {}

local function are_addresses(text)
  for word in string.gmatch(text, '%S+') do
    if not string.match(word, '^.+:%d+$') then
      return false
    end
  end
  return true
end

local epoch, nodes, joining = '0', '', ''
local membership = redis.pcall('HMGET', members, 'epoch', 'nodes', 'joining')
if membership.err then
  damaged_keys[1] = members
elseif membership[1] or membership[2] or membership[3] then
  epoch, nodes, joining = membership[1] or '', membership[2] or '', membership[3] or ''
  if not (string.match(epoch, '^%d+$') and counter_of(epoch) and string.match(nodes, '%S')
    and are_addresses(nodes) and are_addresses(joining)) then
    damaged_keys[1] = members
    epoch, nodes, joining = '0', '', ''
  end
end
local process = redis.pcall('GET', admitted) or ''
if type(process) == 'table' then
  process, damaged_keys[#damaged_keys + 1] = '', admitted
end
local counter = redis.pcall('GET', floor) or '0'
if type(counter) == 'table' or not (string.match(counter, '^%d+$') and counter_of(counter)) then
  damaged_keys[#damaged_keys + 1] = floor
end
-- Changes nothing. A node that refuses writes refuses this one too.
local written = redis.pcall('SET', nothing, '', 'XX')
local refusal = type(written) == 'table' and written.err or ''
local time = redis.call('TIME')
return { time[1] * 1000000 + time[2], epoch, nodes, joining, process, refusal, damaged_keys }
