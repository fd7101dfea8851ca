"""Verifies webhooks with the library of the Standard Webhooks project.

Each line of the input is a JSON object: `key`, `headers` and `body`. Each line of the output is `ok` or the error.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    webhook = json.loads(line)
    try:
        Webhook(webhook["key"]).verify(webhook["body"], webhook["headers"])
        print("ok")
    except WebhookVerificationError as error:
        print(f"refused: {error}")
