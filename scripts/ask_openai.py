#!/usr/bin/env python3
"""Looks at OpenAI from outside the plugin, for the demo: what a project holds, and whether a key works.

usage: ask_openai.py accounts   every service account of $OPENAI_PROJECT_ID, one a line
       ask_openai.py key        whether OpenAI takes $OPENAI_API_KEY; exit status 0 when it does, 3 when it does not
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request


def ask(path, key, query=None):
    """The status and the JSON body of a GET."""
    url = os.environ["OPENAI_BASE_URL"].rstrip("/") + path
    if query:
        url += "?" + urllib.parse.urlencode(query)
    headers = {"Authorization": f"Bearer {key}", "OpenAI-Organization": os.environ["OPENAI_ORG_ID"]}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, None


def accounts():
    path = f"/organization/projects/{os.environ['OPENAI_PROJECT_ID']}/service_accounts"
    query = {"limit": 100}
    while True:
        status, page = ask(path, os.environ["OPENAI_ADMIN_API_KEY"], query)
        if status != 200:
            sys.exit(f"OpenAI answers {status} to a request for the project's accounts")
        for account in page["data"]:
            print(f"{account['id']:<32}  {account['name']}")
        if not page["has_more"]:
            return
        query["after"] = page["last_id"]


def key():
    status, _ = ask("/models", os.environ["OPENAI_API_KEY"])
    if status == 200:
        print("OpenAI takes this key.")
    elif status == 401:
        print("OpenAI does not take this key (401).")
        sys.exit(3)
    else:
        sys.exit(f"OpenAI answers {status}")


if __name__ == "__main__":
    commands = {"accounts": accounts, "key": key}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
