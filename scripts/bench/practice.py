"""What a mount is asked in its life, a little of everything: what runs in it is what the program is arranged for.

usage: python3 scripts/bench/practice.py PROGRAM

Has PROGRAM asked it on a dev server, and ends it as the server does when the mount goes.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from plugins import ADMIN_KEY, ORGANIZATION, PROJECT, Plugin
from process import is_running
from stage import ROOT, Stage, find_server

# The server lets each mount do what is due once a minute.
TICK = 65


def first_credential(stage, plugin):
    """From nothing to a key."""
    stage.api.write(f"sys/mounts/{plugin.name}", {"type": plugin.name})
    plugin.set_up(stage.api, stage.openai)
    stage.load(plugin.credential, 1, requests=1)


def credentials(stage, plugin, count):
    """`count` of them and some more, by many clients at once and by one, with what clients read beside; and their revocation."""
    stage.load(plugin.credential, 16, requests=count)
    stage.slow_openai(20)
    stage.load(plugin.credential, 64, requests=count)
    stage.slow_openai(0)
    stage.load(plugin.credential, 1, requests=count // 10)
    stage.load(f"{plugin.name}/config", 16, requests=count)
    stage.api.write(f"sys/leases/revoke-prefix/{plugin.credential}", {"sync": True})


def all_else(stage, plugin):
    """The other ways to a key, what operators ask, and what the mount does by itself."""
    static_role(stage, plugin)
    library_set(stage, plugin)
    for path in (plugin.role, *(f"{plugin.name}/{path}" for path in ("metrics", "health", "info", "roles?list=true"))):
        stage.load(path, 1, requests=10)
    stage.load(plugin.credential, 1, requests=10)
    time.sleep(TICK)


def static_role(stage, plugin):
    role = {"project": "bench", "service_account_id": new_account(stage.openai, "reports"), "rotation_period": "24h"}
    stage.api.write(f"{plugin.name}/static-roles/reports", role)
    for _ in range(10):
        stage.api.read(f"{plugin.name}/static-creds/reports")
    stage.api.write(f"{plugin.name}/static-creds/reports/rotate", {})
    stage.api.delete(f"{plugin.name}/static-roles/reports")


def library_set(stage, plugin):
    library = f"{plugin.name}/library-sets/pool"
    stage.api.write(library, {"project": "bench", "service_account_names": "pool-1,pool-2"})
    for _ in range(10):
        account = stage.api.write(f"{library}/check-out", {})["data"]["service_account_id"]
        stage.api.read(f"{library}/status")
        stage.api.write(f"{library}/check-in", {"service_account_id": account})
    stage.api.delete(library)


def new_account(openai, name):
    """One that is there before Vault knows of it."""
    settings = {"OPENAI_BASE_URL": openai, "OPENAI_ORG_ID": ORGANIZATION, "OPENAI_PROJECT_ID": PROJECT, "OPENAI_ADMIN_API_KEY": ADMIN_KEY}
    command = [ROOT / "scripts/ask_openai.py", "make-account", name]
    return subprocess.check_output(command, env={**os.environ, **settings}, text=True).strip()


def main(program):
    plugin = Plugin("practice", program, has_projects=True)
    with Stage(find_server(), [plugin]) as stage:
        first_credential(stage, plugin)
        credentials(stage, plugin, 4_000)
        all_else(stage, plugin)
        stage.api.delete(f"sys/mounts/{plugin.name}")
        while is_running(stage.installed[plugin]):
            time.sleep(0.1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
