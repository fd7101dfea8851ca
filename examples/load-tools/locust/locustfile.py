"""Buyers who want one unit each, all at once. Every buyer repeats a purchase under the same key until the answer is final.

SALE_URL, JWT_SECRET and PRODUCT name the sale. A buyer gives up after PATIENCE seconds (60). The last line of the output
is JSON: how many buyers were sold a unit, how many had which other status as their final answer, and how many had none.
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import sys
import time
import uuid

import gevent
from locust import FastHttpUser, events, task
from locust.exception import StopUser

URL = os.environ.get("SALE_URL", "http://127.0.0.1:8080")
PRODUCT = os.environ.get("PRODUCT", "1")
# Not in a buyer: Locust would report its error and wait for the others for ever.
SECRET = os.environ.get("JWT_SECRET") or sys.exit("JWT_SECRET is not set: the key of the sale, which signs the tokens")
PATIENCE = float(os.environ.get("PATIENCE", "60"))
RETRY = {423, 429, 503}
NO_CONNECTION = 0

answers = collections.Counter()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(buyer):
    """What a log-in returns: a JWT that is signed with the key of the sale."""
    claims = {"sub": buyer, "exp": int(time.time()) + 3600}
    text = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    signature = hmac.digest(SECRET.encode(), text.encode(), hashlib.sha256)
    return f"{text}.{base64url(signature)}"


class Buyer(FastHttpUser):
    host = URL

    def on_start(self):
        key = str(uuid.uuid4())
        self.headers = {"Authorization": f"Bearer {token('locust-' + key)}", "Idempotency-Key": key}
        self.deadline = time.monotonic() + PATIENCE

    @task
    def buy(self):
        body = {"product_id": PRODUCT, "quantity": 1}
        with self.client.post("/v1/purchases", json=body, headers=self.headers, catch_response=True) as answer:
            final = answer.status_code not in RETRY | {NO_CONNECTION}
            pause = 0 if final else float((answer.headers or {}).get("Retry-After", 1))
            gives_up = not final and time.monotonic() + pause > self.deadline
            if gives_up:
                answer.failure(f"no final answer after {PATIENCE:g} s")
            # 409: sold out, a right answer. So is one that asks for a repetition.
            elif answer.status_code in RETRY | {201, 409}:
                answer.success()
        if not final and not gives_up:
            gevent.sleep(pause)
            return
        known = {201: "sold"}.get(answer.status_code, answer.status_code)
        answers[known if final else "no answer"] += 1
        if answers.total() == self.environment.parsed_options.num_users:
            self.environment.runner.quit()
        raise StopUser


@events.quitting.add_listener
def print_answers(**_):
    print(json.dumps(answers))
