#!/usr/bin/env python3
"""Runs OpenAI's own SDK with identity tokens of a mount instead of a key, for a number of seconds.

usage: keyless.py PATH BASE_URL TOKEN_URL SECONDS   (with the packages of requirements.txt on the path, VAULT_ADDR and VAULT_TOKEN)

PATH is identity-token/:name of a mount. The script prints how often the SDK asked for an identity token, and how many calls of
OpenAI it made. Any failure ends the script.
"""

import json
import os
import sys
import time
import urllib.request

os.environ["NO_PROXY"] = "*"

import openai  # noqa: E402  (after NO_PROXY: the SDK reads it when a client is made)


def read_token(path):
    request = urllib.request.Request(
        f"{os.environ['VAULT_ADDR']}/v1/{path}", headers={"X-Vault-Token": os.environ["VAULT_TOKEN"]}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return json.load(answer)["data"]


def main(path, base_url, token_url, seconds):
    asked = 0

    def get_token():
        nonlocal asked
        asked += 1
        return read_token(path)["identity_token"]

    first = read_token(path)
    client = openai.OpenAI(
        workload_identity={
            "identity_provider_id": first["identity_provider_id"],
            "service_account_id": first["service_account_id"],
            "provider": {"token_type": "jwt", "get_token": get_token},
        },
        base_url=base_url,
        max_retries=0,
    )
    # The SDK has no public setting for the URL of the token exchange.
    client._workload_identity_auth.token_exchange_url = token_url
    calls, end = 0, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        assert list(client.models.list()), "OpenAI lists no models"
        calls += 1
        time.sleep(0.2)
    print(json.dumps({"identity_tokens": asked, "calls": calls}))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
