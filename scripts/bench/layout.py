"""Which functions of the plugin run at its start and for its requests, so that they lie together in the program: `make layout`.

usage: python3 scripts/bench/layout.py PROGRAM FILE

Runs PROGRAM, which should have its symbols, under callgrind on a dev server: a mount, its configuration, a role, credentials of many
clients, reads of the configuration, revocations. Writes FILE for the linker. A function is named by its symbol, with `*` for what
differs from one compiler or version of a library to the next. A line that fits nothing does no harm, and a function that is missing
lies with the ones that seldom run.
"""

import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from micro import ROOT, Process, Watched, functions
from stage import Stage, find_server

ABOUT = "The functions that run at the plugin's start and for its requests, so that they lie together. Made by `make layout`."
# What a mangled name ends with differs with the compiler; so does what stands for a crate in a name of the standard library.
PLAIN = re.compile(r"(_ZN.*?17h)[0-9a-f]{16}E")
CRATE = re.compile(r"Cs[0-9A-Za-z]+_")
AWS_LC = re.compile(r"^aws_lc_\d+_\d+_\d+_")
# What optimizers append to the name of a function's part or copy.
PART = re.compile(r"\.(?:llvm|constprop|part|isra|cold|\d+).*$")


@dataclass(frozen=True)
class Named(Watched):
    """Counted under the names that the linker knows."""

    options = "--tool=callgrind --demangle=no"


def main(program, file):
    start, requests = watch(program)
    sizes = sizes_of_functions(program)
    hot = {name for name in start | requests if name in sizes}
    all_of, hot_of = Counter(), Counter()
    for name, size in sizes.items():
        all_of[pattern(name)] += size
        hot_of[pattern(name)] += size if name in hot else 0
    by_requests = {pattern(name) for name in hot & requests}
    mostly = {line for line in hot_of if hot_of[line] > all_of[line] / 2}
    seldom = {line for line in hot_of if hot_of[line]} - mostly
    parts = {
        "What requests run": mostly & by_requests,
        "What a start runs beside that": mostly - by_requests,
        "Of these, some copies run and most do not": seldom,
    }
    file.write_text(linker_script(parts))
    for title, lines in parts.items():
        print(f"{title}: {len(lines):,} lines, {sum(all_of[line] for line in lines):,} bytes")


def linker_script(parts):
    """Puts the parts before all other code. The sections of functions that are marked as cold have names with one more word."""
    text = f"/* {ABOUT} */\n\nSECTIONS {{\n  .text.first : {{\n"
    for title, lines in parts.items():
        text += f"    /* {title}. */\n" + "".join(f"    *(.text*.{line})\n" for line in sorted(lines))
    return text + "  }\n}\nINSERT BEFORE .text;\n"


def watch(program):
    """The functions that run until a first credential is there, and those that requests run."""
    plugin = Named("layout", program, has_projects=True)
    with Stage(find_server(ROOT), ROOT / "target/release/examples", [plugin]) as stage:
        stage.api.write("sys/mounts/layout", {"type": "layout"})
        plugin.set_up(stage.api, stage.openai)
        process = Process(plugin, stage.folder / "plugins")
        stage.load(plugin.credential, 1, requests=1)
        time.sleep(1)
        start = run(process)
        stage.load(plugin.credential, 64, requests=600)
        stage.load("layout/config", 16, requests=200)
        stage.api.write(f"sys/leases/revoke-prefix/{plugin.credential}", {"sync": True})
        time.sleep(2)
        return start, run(process)


def run(process):
    """The names of what ran since the last time; callgrind tells deeper calls of a function apart by a number."""
    return {re.sub(r"'\d+$", "", function) for function, _ in functions(process.dump())}


def sizes_of_functions(program):
    """The size in bytes of each function."""
    lines = subprocess.check_output(["nm", "-S", "--defined-only", program], text=True).splitlines()
    words = [line.split(" ", 3) for line in lines]
    return {found[3]: int(found[1], 16) for found in words if len(found) == 4 and found[2] in "tTwW" and is_ours(found[3])}


def is_ours(name):
    """Not the C library's, whose functions are not in sections of their own; and a name that the linker does not misread."""
    return re.fullmatch(r"[\w.$]+", name) and (not name.startswith("_") or name.startswith(("_ZN", "_R")))


def pattern(name):
    """A function's line."""
    if plain := PLAIN.match(name):
        return plain[1] + "*"
    whole = PART.sub("", name)
    line = CRATE.sub("Cs*_", whole) if whole.startswith("_R") else AWS_LC.sub("aws_lc_*_", whole)
    return line if whole == name else line + "*"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
