-- What wrk sends, and what it says at the end. Everything that does not change from request to
-- request is made before the first, because wrk's time is the machine's as well. There is no
-- response(): without it wrk does not look at answers beyond their status.
--
-- Environment: BENCH_PORTS     replicas' ports; each thread keeps to one of them
--              BENCH_TOKENS    a file with a token a line
--              BENCH_PRODUCTS  what is bought, at random; nothing: GET /v1/auth/me
--              BENCH_ORDERS    orders that hold their unit instead of purchases; nothing: purchases
--              BENCH_REPEATS   N: one of N requests is sent again, long after its answer; nothing: none
--              BENCH_UUIDS     idempotency keys are random UUIDs; nothing: numbers behind BENCH_RUN
--              BENCH_RUN       begins numbered keys, so that they differ from other runs'

local function words(name)
  local found = {}
  for word in (os.getenv(name) or ""):gmatch("[^,]+") do
    found[#found + 1] = word
  end
  return found
end

local ports = words("BENCH_PORTS")
local threads = 0

function setup(thread)
  thread:set("number", threads)
  thread.addr = wrk.lookup("127.0.0.1", ports[threads % #ports + 1])[1]
  threads = threads + 1
end

local heads = {}
local tails = {}
local sent = 0

local function get_me()
  sent = sent + 1
  return heads[sent % #heads + 1]
end

local function purchase_one()
  sent = sent + 1
  return heads[sent % #heads + 1] .. sent .. tails[1]
end

local every = tonumber(os.getenv("BENCH_REPEATS") or "")
local first = 0
-- More requests than are under way at any time.
local ago = 5001

local function purchase_one_or_again()
  sent = sent + 1
  local number = sent
  if sent % every == 0 and sent - ago > first then
    number = sent - ago
  end
  return heads[number % #heads + 1] .. number .. tails[1]
end

local random = math.random

local function purchase_by_uuid()
  sent = sent + 1
  local key = ("%08x-%04x-4%03x-a%03x-%06x%06x"):format(
    random(0, 0x7fffffff), random(0, 0xffff), random(0, 0xfff), random(0, 0xfff), random(0, 0xffffff), random(0, 0xffffff)
  )
  return heads[sent % #heads + 1] .. key .. tails[1]
end

local function purchase_any()
  sent = sent + 1
  return heads[sent % #heads + 1] .. sent .. tails[random(#tails)]
end

function init()
  local products = words("BENCH_PRODUCTS")
  local uuids = os.getenv("BENCH_UUIDS") == "1"
  local holds = os.getenv("BENCH_ORDERS") == "1"
  local head = "GET /v1/auth/me HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n"
  request = get_me
  if #products > 0 then
    head = "POST /v1/" .. (holds and "orders" or "purchases") .. " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n"
      .. "Content-Type: application/json\r\nContent-Length: %d\r\nIdempotency-Key: "
    head = head .. (uuids and "" or "%s-%d-")
    request = uuids and purchase_by_uuid or #products > 1 and purchase_any or every and purchase_one_or_again or purchase_one
  end
  -- All ids have the same length, so one head fits all bodies.
  local body = '{"product_id":"%s","quantity":1}'
  if holds then
    body = '{"items":[' .. body .. ']}'
  end
  for index, product in ipairs(products) do
    tails[index] = "\r\n\r\n" .. body:format(product)
  end
  local length = #body - 2 + #(products[1] or "")
  for token in io.lines(os.getenv("BENCH_TOKENS")) do
    heads[#heads + 1] = head:format(token, length, os.getenv("BENCH_RUN"), number)
  end
  -- Threads begin at different buyers.
  sent = number * 3571
  first = sent
  math.randomseed(os.time() + number)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'BENCH {"duration_us":%d,"answers":%d,"refused":%d,"broken":%d,"timed_out":%d,'
      .. '"p50_us":%d,"p99_us":%d}\n',
    summary.duration, summary.requests, errors.status, errors.connect + errors.read + errors.write,
    errors.timeout, latency:percentile(50), latency:percentile(99)
  ))
end
