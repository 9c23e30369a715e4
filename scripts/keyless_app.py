#!/usr/bin/env python3
"""An application without an API key, for the demo: it asks OpenAI for its models, again and again, with identity tokens of a role.

usage: keyless_app.py ROLE SECONDS

It reads $VAULT_ADDR, $VAULT_TOKEN, $OPENAI_BASE_URL and $OPENAI_TOKEN_URL. OpenAI's SDK exchanges the identity tokens, if it is
installed (pip install 'openai>=3.57'). Otherwise the script sends the same request itself.
"""

import json
import os
import sys
import time
import urllib.request

try:
    import openai
except ImportError:
    openai = None

BASE_URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/")
TOKEN_URL = os.environ.get("OPENAI_TOKEN_URL", "https://auth.openai.com/oauth/token")
# The time between two questions.
PAUSE = 1


def fetch(url, headers, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


class Issuer:
    """The identity tokens of the role, and how many were read."""

    def __init__(self, role):
        self.role, self.read_so_far = role, 0

    def read(self):
        self.read_so_far += 1
        url = f"{os.environ['VAULT_ADDR']}/v1/openai/identity-token/{self.role}"
        return fetch(url, {"X-Vault-Token": os.environ["VAULT_TOKEN"]})["data"]


class Sdk:
    """OpenAI's SDK, which exchanges and renews by itself."""

    def __init__(self, issuer):
        self.name = f"OpenAI's SDK {openai.__version__}"
        first = issuer.read()
        provider = {"token_type": "jwt", "get_token": lambda: issuer.read()["identity_token"]}
        ids = {name: first[name] for name in ("identity_provider_id", "service_account_id")}
        self.client = openai.OpenAI(workload_identity={**ids, "provider": provider}, base_url=BASE_URL)
        # The SDK has no public setting for the URL of the token exchange.
        self.client._workload_identity_auth.token_exchange_url = TOKEN_URL

    def models(self):
        return [model.id for model in self.client.models.list()]


class ByHand:
    """The same without the SDK: exchange an identity token, and another one after half of the access token's life."""

    name = "two requests of plain HTTP, as OpenAI's SDK sends them"

    def __init__(self, issuer):
        self.issuer, self.renew_at = issuer, 0

    def models(self):
        if time.monotonic() >= self.renew_at:
            token = self.issuer.read()
            body = {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": token["identity_token"],
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "identity_provider_id": token["identity_provider_id"],
                "service_account_id": token["service_account_id"],
            }
            granted = fetch(TOKEN_URL, {}, body)
            self.access_token = granted["access_token"]
            self.renew_at = time.monotonic() + granted["expires_in"] / 2
        listed = fetch(f"{BASE_URL}/models", {"Authorization": f"Bearer {self.access_token}"})
        return [model["id"] for model in listed["data"]]


def main(role, seconds):
    issuer = Issuer(role)
    client = Sdk(issuer) if openai else ByHand(issuer)
    print(f"By {client.name}; OPENAI_API_KEY is {'set' if os.environ.get('OPENAI_API_KEY') else 'not set'}.")
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        print(f"OpenAI answers: {len(client.models())} models. Identity tokens read so far: {issuer.read_so_far}")
        time.sleep(PAUSE)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
