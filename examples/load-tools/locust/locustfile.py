"""Buyers who want one unit each, all at once. Every buyer repeats a purchase under the same key until the answer is final.

SALE_URL, JWT_SECRET and PRODUCT name the sale. The last line of the output is JSON: how many buyers were
sold a unit, and how many had which other status as their final answer.
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import time
import uuid

import gevent
from locust import FastHttpUser, events, task
from locust.exception import StopUser

URL = os.environ.get("SALE_URL", "http://127.0.0.1:8080")
PRODUCT = os.environ.get("PRODUCT", "1")
RETRY = {0, 423, 429, 503}

answers = collections.Counter()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(buyer):
    """What a log-in returns: a JWT that is signed with the key of the sale."""
    claims = {"sub": buyer, "exp": int(time.time()) + 3600}
    text = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    signature = hmac.digest(os.environ["JWT_SECRET"].encode(), text.encode(), hashlib.sha256)
    return f"{text}.{base64url(signature)}"


class Buyer(FastHttpUser):
    host = URL

    def on_start(self):
        key = str(uuid.uuid4())
        self.headers = {"Authorization": f"Bearer {token('locust-' + key)}", "Idempotency-Key": key}

    @task
    def buy(self):
        body = {"product_id": PRODUCT, "quantity": 1}
        with self.client.post("/v1/purchases", json=body, headers=self.headers, catch_response=True) as answer:
            # 409: sold out, a right answer.
            if answer.status_code in (201, 409):
                answer.success()
        if answer.status_code in RETRY:
            gevent.sleep(float((answer.headers or {}).get("Retry-After", 1)))
            return
        answers["sold" if answer.status_code == 201 else answer.status_code] += 1
        if answers.total() == self.environment.parsed_options.num_users:
            self.environment.runner.quit()
        raise StopUser


@events.quitting.add_listener
def print_answers(**_):
    print(json.dumps(answers))
