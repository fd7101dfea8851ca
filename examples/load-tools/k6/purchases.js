// Buyers who want one unit each. They come at a steady rate, however slow the answers are: an open model. Every buyer
// repeats a purchase under the same key until the answer is final.
//
// SALE_URL, JWT_SECRET and PRODUCT name the sale. RATE buyers (100) come in a second, for DURATION seconds (3). A buyer gives
// up after PATIENCE seconds (60). The summary counts the buyers by their final answers: `sold`, `sold_out`, `other`, and
// `no_answer` for those who gave up. `until_answer` counts from when a buyer wanted to press.

import { sleep } from "k6";
import { hmac } from "k6/crypto";
import { b64encode } from "k6/encoding";
import exec from "k6/execution";
import http from "k6/http";
import { Counter, Trend } from "k6/metrics";

const URL = __ENV.SALE_URL || "http://127.0.0.1:8080";
const PRODUCT = __ENV.PRODUCT || "1";
const RATE = Number(__ENV.RATE || 100);
const DURATION = Number(__ENV.DURATION || 3);
const PATIENCE = Number(__ENV.PATIENCE || 60);
const SECRET = __ENV.JWT_SECRET;
if (!SECRET) throw new Error("JWT_SECRET is not set: the key of the sale, which signs the tokens");

const RETRY = [423, 429, 503];
const NO_CONNECTION = 0;

const sold = new Counter("sold");
const soldOut = new Counter("sold_out");
const other = new Counter("other");
const noAnswer = new Counter("no_answer");
const untilAnswer = new Trend("until_answer", true);

export const options = {
  scenarios: {
    buyers: {
      executor: "constant-arrival-rate",
      rate: RATE,
      timeUnit: "1s",
      duration: `${DURATION}s`,
      // So that no buyer waits for one who came before. k6 may start a few more at the end.
      preAllocatedVUs: RATE * DURATION + 10,
      // The last request begins when patience ends at the latest, and then has its own time limit.
      gracefulStop: `${2 * PATIENCE + 5}s`,
    },
  },
  // With one that fails, k6 exits 99.
  thresholds: {
    dropped_iterations: ["count==0"],
    other: ["count==0"],
    no_answer: ["count==0"],
  },
  discardResponseBodies: true,
};

// 409: sold out, a right answer. So is one that asks for a repetition.
http.setResponseCallback(http.expectedStatuses(201, 409, ...RETRY));

// What a log-in returns: a JWT that is signed with the key of the sale.
function token(buyer) {
  const claims = { sub: buyer, exp: Math.floor(Date.now() / 1000) + 3600 };
  const text = [{ alg: "HS256" }, claims].map((part) => b64encode(JSON.stringify(part), "rawurl")).join(".");
  return `${text}.${hmac("sha256", SECRET, text, "base64rawurl")}`;
}

// The status of the final answer; none if the buyer gave up.
function buy(deadline) {
  const key = crypto.randomUUID();
  const headers = {
    "Content-Type": "application/json",
    Authorization: `Bearer ${token(`k6-${key}`)}`,
    "Idempotency-Key": key,
  };
  const body = JSON.stringify({ product_id: PRODUCT, quantity: 1 });
  for (;;) {
    const answer = http.post(`${URL}/v1/purchases`, body, { headers, timeout: `${PATIENCE}s` });
    if (![NO_CONNECTION, ...RETRY].includes(answer.status)) return answer.status;
    const pause = Number(answer.headers["Retry-After"] || 1);
    if (Date.now() + 1000 * pause > deadline) return undefined;
    sleep(pause);
  }
}

export default function () {
  const { startTime, iterationInTest } = exec.scenario;
  // When the buyer wanted to press. k6 may be late itself, and its own figures do not show that.
  const due = startTime + (1000 * iterationInTest) / RATE;
  const status = buy(due + 1000 * PATIENCE);
  if (status === undefined) {
    noAnswer.add(1);
    return;
  }
  untilAnswer.add(Date.now() - due);
  if (status === 201) sold.add(1);
  else if (status === 409) soldOut.add(1);
  else {
    other.add(1);
    console.error(`final answer ${status}`);
  }
}
