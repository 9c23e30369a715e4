#!/usr/bin/env python3
"""Looks at OpenAI from outside the plugin, for the demo: what a project holds, and whether a key works.

usage: ask_openai.py accounts            every service account of $OPENAI_PROJECT_ID, one a line, with the ids of its keys
       ask_openai.py key                 whether OpenAI takes $OPENAI_API_KEY; exit status 0 when it does, 3 when it does not
       ask_openai.py admin-key           the same of $OPENAI_ADMIN_API_KEY
       ask_openai.py make-account NAME   makes a service account, as a person or Terraform does, and prints its id
       ask_openai.py delete-account ID   deletes one
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request


def in_project(path):
    return f"/organization/projects/{os.environ['OPENAI_PROJECT_ID']}{path}"


def ask(path, key, query=None, method="GET", body=None):
    """The status and the JSON body of a call."""
    url = os.environ["OPENAI_BASE_URL"].rstrip("/") + path
    if query:
        url += "?" + urllib.parse.urlencode(query)
    headers = {
        "Authorization": f"Bearer {key}",
        "OpenAI-Organization": os.environ["OPENAI_ORG_ID"],
        "Content-Type": "application/json",
    }
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, None


def administer(path, **call):
    """The body of a call that has to succeed."""
    status, body = ask(path, os.environ["OPENAI_ADMIN_API_KEY"], **call)
    if status != 200:
        sys.exit(f"OpenAI answers {status} to {call.get('method', 'GET')} {path}")
    return body


def listed(path, **query):
    """Every item of a list, page after page."""
    query["limit"] = 100
    while True:
        page = administer(path, query=query)
        yield from page["data"]
        if not page["has_more"]:
            return
        query["after"] = page["last_id"]


def accounts():
    keys = {}
    for key in listed(in_project("/api_keys")):
        account = key["owner"].get("service_account")
        if account:
            keys.setdefault(account["id"], []).append(key["id"])
    for account in listed(in_project("/service_accounts")):
        print(f"{account['id']:<32}  {account['name']:<40}  {' '.join(keys.get(account['id'], ['-']))}")


def key():
    tell_whether_taken(*ask("/models", os.environ["OPENAI_API_KEY"]))


def admin_key():
    tell_whether_taken(*ask("/organization/projects", os.environ["OPENAI_ADMIN_API_KEY"]))


def tell_whether_taken(status, _):
    if status == 200:
        print("OpenAI takes this key.")
    elif status == 401:
        print("OpenAI does not take this key (401).")
        sys.exit(3)
    else:
        sys.exit(f"OpenAI answers {status}")


def make_account(name):
    # OpenAI gives an account that it makes without a key no role; so it has one, for a moment.
    body = {"name": name, "expires_in_seconds": 60}
    made = administer(in_project("/service_accounts"), method="POST", body=body)
    administer(in_project(f"/api_keys/{made['api_key']['id']}"), method="DELETE")
    print(made["id"])


def delete_account(account):
    administer(in_project(f"/service_accounts/{account}"), method="DELETE")


if __name__ == "__main__":
    commands = {
        ("accounts", 0): accounts,
        ("key", 0): key,
        ("admin-key", 0): admin_key,
        ("make-account", 1): make_account,
        ("delete-account", 1): delete_account,
    }
    asked, arguments = "".join(sys.argv[1:2]), sys.argv[2:]
    if (asked, len(arguments)) not in commands:
        sys.exit(__doc__)
    commands[asked, len(arguments)](*arguments)
