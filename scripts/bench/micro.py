"""Instructions that the plugin's process takes for a request, by part of the program: `make micro`.

usage: python3 scripts/bench/micro.py PROGRAM [COUNT]

Runs PROGRAM, which should have its symbols and no functions inlined across crates, under callgrind on a dev server, and reads COUNT times (100) each kind of request. The
counts are the same to a few percent whatever else the machine does, so that a change shows itself; they tell nothing of time.
"""

import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from plugins import Plugin
from stage import Stage, find_server

# The first that occurs in a function's name says which part it belongs to.
PARTS = {
    "engine: templates": r"engine::naming|handlebars",
    "engine: metrics": r"engine::telemetry|engine::operator::health|metrics(_\w+)?::",
    "engine": r"openai_secrets::engine",
    "dispatch": r"openai_secrets::framework",
    "conversion": r"openai_secrets::wire::(convert|value|error|pb)|prost",
    "way to storage and system": r"openai_secrets::wire",
    "records": r"openai_secrets::logical|serde",
    "OpenAI's client": r"openai_secrets::openai|reqwest|hyper::proto::h1|httparse|\burl::|idna|tower_http",
    "go-plugin": r"openai_secrets::goplugin",
    "gRPC": r"tonic|tower|\bh2::|hyper|\bhttp::|http_body",
    "TLS": r"rustls|\bring::|ring_core|ecp_|aes_|gcm|sha\d|p521|webpki",
    "runtime": r"tokio|mio::|futures|parking_lot|epoll|pthread",
    "logs": r"tracing",
    "memory": r"malloc|free|calloc|realloc|unlink_chunk|mem(cpy|move|set|cmp|chr)|mem_|__rdl_|__rust_|zeroize",
}


@dataclass(frozen=True)
class Watched(Plugin):
    """The plugin in callgrind, by a script that the server starts in its place."""

    options = "--tool=callgrind"

    def install(self, folder):
        script = Path(folder) / self.name
        options = f"{self.options} --callgrind-out-file={folder}/counts.%p"
        script.write_text(f'#!/bin/sh\nexec valgrind -q {options} "{self.program}" 2>/dev/null\n')
        script.chmod(0o755)
        return script


def process_of(program):
    """The newest process whose command line names it: the one that serves, not one that only told its version."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if str(program).encode() in words and b"--tool=callgrind" in words:
            found.append(int(entry.name))
    return max(found)


class Process:
    """The plugin's process, and what it has counted so far."""

    def __init__(self, plugin, folder):
        self.number = process_of(plugin.program)
        self.folder = folder
        self.dumps = 0

    def control(self, command):
        subprocess.run(["callgrind_control", command, str(self.number)], check=True, stdout=subprocess.DEVNULL)

    def count(self, work):
        """Instructions by part of the program while `work` runs, and a moment longer for what it leaves behind."""
        self.control("--zero")
        work()
        time.sleep(1)
        parts = Counter()
        for function, count in functions(self.dump()):
            parts[part_of(function)] += count
        return parts

    def dump(self):
        """Writes down what was counted since the last time, and gives the file."""
        self.control("--dump")
        self.dumps += 1
        return self.folder / f"counts.{self.number}.{self.dumps}"


def functions(dump):
    """Each function and what it took itself, without what it called; a function may come more than once."""
    names, function, is_call = {}, "", False
    for line in dump.read_text().splitlines():
        if named := re.match(r"fn=\((\d+)\)(?: (.*))?", line):
            function = names.setdefault(named[1], named[2])
        elif named := re.match(r"cfn=\((\d+)\) (.*)", line):
            names[named[1]] = named[2]
        elif line.startswith("calls="):
            is_call = True
        elif re.match(r"[+\-*\d]", line):
            if not is_call:
                yield function, int(line.split()[-1])
            is_call = False


def part_of(function):
    return next((part for part, pattern in PARTS.items() if re.search(pattern, function)), "the rest")


def main(program, count):
    plugin = Watched("micro", program, has_projects=True)
    kinds = {}
    with Stage(find_server(), [plugin]) as stage:
        stage.api.write("sys/mounts/micro", {"type": "micro"})
        plugin.set_up(stage.api, stage.openai)
        plugin.set_up_keyless(stage.api, stage.openai)
        process = Process(plugin, stage.folder / "plugins")
        works = {
            "config read": lambda: stage.load("micro/config", 1, requests=count),
            "role write": lambda: [plugin.write_role(stage.api, f"role-{number}") for number in range(count)],
            "credential": lambda: stage.load(plugin.credential, 1, requests=count),
            "revocation": lambda: stage.api.write(f"sys/leases/revoke-prefix/{plugin.credential}", {"sync": True}),
            "access token": lambda: stage.load(plugin.access_token, 1, requests=count),
            "identity token": lambda: stage.load(plugin.identity_token, 1, requests=count),
        }
        # Once without counting: what is done on first use is no request's cost.
        stage.load(plugin.credential, 1, requests=10)
        works["revocation"]()
        stage.load(plugin.access_token, 1, requests=10)
        for kind, work in works.items():
            kinds[kind] = process.count(work)
    show(kinds, count)


def show(kinds, count):
    print("thousands of instructions".ljust(30) + "".join(kind.rjust(14) for kind in kinds))
    for part in [*PARTS, "the rest"]:
        print(part.ljust(30) + "".join(f"{parts[part] / count / 1000:14.1f}" for parts in kinds.values()))
    print("all".ljust(30) + "".join(f"{parts.total() / count / 1000:14.1f}" for parts in kinds.values()))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) == 3 else 100)
