"""This plugin beside the Go plugin, on one server, with one simulated OpenAI and the same clients: `make bench PEER=...`.

usage: python3 scripts/bench [--keep] [--ours FILE] PEER

PEER is the Go plugin's program. Ours is bin/'s, unless given; simulator and clients are those of `cargo build --release`; the server is
$VAULT_BIN, else vault or bao on the PATH, else OpenBao, which is fetched. Prints a table, with --keep keeps it in docs/performance.md too, and
exits with 1 when a bound is missed. QUICK=1 shows in a minute that all of it works; its figures are not worth keeping. The images
named by $IMAGE and $PEER_IMAGE, where Docker has both, are compared too.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import table
from measures import Bench, Counts
from plugins import Plugin
from stage import ROOT, Stage, find_server


def main(arguments):
    quick = os.environ.get("QUICK") == "1"
    server = find_server()
    ours = Plugin("ours", arguments.ours.resolve(), has_projects=True)
    theirs = Plugin("theirs", arguments.peer.resolve(), has_projects=False)
    start = time.monotonic()
    rows = []
    for raft in (False, True):
        with Stage(server, [ours, theirs], raft) as stage:
            bench = Bench(stage, ours, theirs, Counts(quick))
            for row in bench.run_on_raft() if raft else bench.run():
                print("  ".join(cell for cell in row.cells() if cell), flush=True)
                rows.append(row)
    rows.extend(images())
    version = " ".join(subprocess.check_output([server, "version"], text=True).replace(",", "").split()[:2])
    text = f"{table.markdown(rows)}\n\n{table.machine(version, quick)}"
    print(f"\n{text}\n\n{time.monotonic() - start:.0f} s")
    if arguments.keep:
        table.keep(ROOT / "docs/performance.md", text)
    missed = [row.what for row in rows if row.missed]
    if missed:
        print(f"missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def images():
    """The row of the images' sizes, if there are images to look at."""
    sizes = []
    for variable in ("IMAGE", "PEER_IMAGE"):
        command = ["docker", "image", "inspect", "--format", "{{.Size}}", os.environ.get(variable, "")]
        try:
            sizes.append(int(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)) / 1e6)
        except (OSError, subprocess.CalledProcessError):
            print(f"The images are not compared: ${variable} names none that Docker has.")
            return
    yield table.Row("image", "MB", *sizes)


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--ours", type=Path, default=ROOT / "bin/vault-plugin-secrets-openai")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args(words)
    for program in (arguments.peer, arguments.ours):
        if not program.is_file():
            parser.error(f"there is no {program}")
    return arguments


if __name__ == "__main__":
    sys.exit(main(parse(sys.argv[1:])))
