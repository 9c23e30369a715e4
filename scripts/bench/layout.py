"""Which functions of the plugin run at its start and for its requests, so that they lie together in the program.

usage: python3 scripts/bench/layout.py PROGRAM MAP FILE

Runs PROGRAM, which has its symbols, under callgrind on a dev server. Writes FILE for the linker; MAP is what the linker wrote of
where things lie.

A function is named by its section, with `*` for what differs from one compiler or version of a library to the next. Where many
functions have that name and few of them run, those few come first, by their full names. What never ran of a function while it was
profiled is a section of its own. The C library's functions and those written in assembly have none: there the object is named. A
line that fits nothing does no harm, and a function that is missing lies with the ones that seldom run.
"""

import re
import sys
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import practice
from micro import Process, Watched
from stage import Stage, find_server

ABOUT = "The functions that run at the plugin's start and for its requests, so that they lie together. Made by `make profile`."
OTHERS = "What is named like some of these and did not run; another compiler's copies are all here"
# Enough for what happens once in thousands of them.
CREDENTIALS = 1_500
# A line of the map that is a part of an object or archive: its address, its size, the object, the section.
SECTION = re.compile(r"^ *([0-9a-f]+) +[0-9a-f]+ +([0-9a-f]+) +\d+ {9}(\S+?):\((\.text\S*)\)$")
MEMBER = re.compile(r"([^/]+)\((.+)\)$")
# A function's section is named after it, with a word before that where the profile says how hot it is. What seldom runs of a hot
# one is a section of its own.
FUNCTION = re.compile(r"\.text\.(?:hot\.|unlikely\.)?(split\.)?(.+)")
# What a mangled name ends with differs with the compiler; so does what stands for a crate in a name of the standard library.
PLAIN = re.compile(r"(_ZN.*?17h)[0-9a-f]{16}E")
CRATE = re.compile(r"Cs[0-9A-Za-z]+_")
AWS_LC = re.compile(r"^aws_lc_\d+_\d+_\d+_")
# What optimizers append to the name of a function's part or copy.
PART = re.compile(r"\.(?:llvm|constprop|part|isra|cold|\d+).*$")
# What differs in the name of an archive or object: what cargo and the C compiler put there.
ARCHIVE = re.compile(r"-[0-9a-f]{16}\.rlib$")
OBJECT = re.compile(r"^[0-9a-f]{16}-")
# Newer processors than callgrind plays have functions of their own: AVX-512 in place of AVX2 or SSE, and AWS-LC's for multiplication.
PROCESSOR = re.compile(r"(?:-(?:avx|sse).*|_alt)\.o$")


@dataclass(frozen=True)
class Followed(Watched):
    """Counted by each instruction's address."""

    options = "--tool=callgrind --dump-instr=yes --compress-pos=no"


@dataclass
class Section:
    """What the linker moves as one."""

    address: int
    size: int
    object: str
    name: str

    def is_one_function(self):
        """Named after it; the C library names its sections after processors."""
        return self.name != ".text" and "libc.a(" not in self.object

    def ran(self, addresses):
        """Whether any of these sorted addresses is in it."""
        first = bisect_left(addresses, self.address)
        return first < len(addresses) and addresses[first] < self.address + self.size

    @cached_property
    def line(self):
        """Finds it in this very build."""
        return self.like(FUNCTION.match(self.name)[2]) if self.is_one_function() else self.pattern

    @cached_property
    def pattern(self):
        """Finds it, and what is named alike, in other builds too."""
        if self.is_one_function():
            return self.like(pattern(FUNCTION.match(self.name)[2]))
        member = MEMBER.search(self.object)
        archive, name = ARCHIVE.sub("-*.rlib", member[1]), OBJECT.sub("*-", member[2])
        return f"*{archive}:{PROCESSOR.sub('*.o', name)}(.text .text.*)"

    def like(self, name):
        """Finds the same of a function of this name, however hot another profile says it is."""
        kinds = [".text.split."] if FUNCTION.match(self.name)[1] else [".text.", ".text.hot.", ".text.unlikely."]
        return f"*({' '.join(kind + name for kind in kinds)})"


def main(program, map_of_linker, file):
    parts = arranged(sections(map_of_linker.read_text().splitlines()), watch(program))
    file.write_text(linker_script(parts))
    for title, sizes in parts.items():
        print(f"{title}: {len(sizes):,} lines, {sum(sizes.values()):,} bytes")


def arranged(all_sections, watched):
    """Lines for the linker, and the size of what they find: what ran, each for the first thing that ran it."""
    of_any = sorted(set().union(*watched.values()))
    size_of, ran_of, size_of_few = Counter(), Counter(), Counter()
    for section in all_sections:
        size_of[section.pattern] += section.size
        if section.ran(of_any):
            ran_of[section.pattern] += section.size
            size_of_few[section.line] += section.size
    mostly = {pattern: size_of[pattern] for pattern in ran_of if ran_of[pattern] > size_of[pattern] / 2}
    parts, placed = {}, set()
    for title, addresses in watched.items():
        ran = [section for section in all_sections if section.ran(addresses)]
        lines = {section.pattern if section.pattern in mostly else section.line for section in ran} - placed
        parts[title] = {line: mostly.get(line) or size_of_few[line] for line in lines}
        placed |= lines
    parts[OTHERS] = {pattern: size_of[pattern] for pattern in ran_of if pattern not in placed}
    return parts


def linker_script(parts):
    """Puts the parts before all other code, and with them what the linker makes itself for the C library's start."""
    text = f"/* {ABOUT} */\n\nSECTIONS {{\n  .text.first : {{\n    *(.init)\n    *(.fini)\n    *(.iplt)\n"
    for title, lines in parts.items():
        text += f"    /* {title}. */\n" + "".join(f"    {line}\n" for line in sorted(lines))
    return text + "  }\n}\nINSERT BEFORE .text;\n"


def watch(program):
    """The addresses of what runs for credentials, until the first is there, and for other requests."""
    plugin = Followed("layout", program, has_projects=True)
    with Stage(find_server(), [plugin]) as stage:
        practice.first_credential(stage, plugin)
        process = Process(plugin, stage.folder / "plugins")
        start = run(process, program)
        practice.credentials(stage, plugin, CREDENTIALS)
        many = run(process, program)
        practice.all_else(stage, plugin)
        return {"What credentials run": many, "What a start runs beside that": start, "What other requests run": run(process, program)}


def run(process, program):
    """Where the program was since the last time, as the linker counts: from the program's beginning."""
    maps = Path(f"/proc/{process.number}/maps").read_text()
    start = min(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(f" {program}"))
    return sorted(addresses(process.dump().read_text().splitlines(), start))


def addresses(lines, start):
    """Of instructions that ran. Callgrind counts from the program's beginning too, but where it sees no object: it takes a program
    for its `.text` alone."""
    found, unknown, beginning = set(), None, 0
    for line in lines:
        if line.startswith("0x"):
            found.add(int(line.split()[0], 16) - beginning)
        elif line.startswith("ob="):
            number, _, name = line.removeprefix("ob=").partition(" ")
            unknown = number if name == "???" else unknown
            beginning = start if number == unknown else 0
    return found


def sections(lines):
    """The program's code as the linker's map tells of it."""
    found = [match for line in lines if (match := SECTION.match(line))]
    read = [Section(int(match[1], 16), int(match[2], 16), match[3], match[4]) for match in found]
    return [section for section in read if section.is_one_function() or MEMBER.search(section.object)]


def pattern(name):
    """A function's name in other builds."""
    if plain := PLAIN.match(name):
        return plain[1] + "*"
    whole = PART.sub("", name)
    line = CRATE.sub("Cs*_", whole) if whole.startswith("_R") else AWS_LC.sub("aws_lc_*_", whole)
    return line if whole == name else line + "*"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), Path(sys.argv[3]))
