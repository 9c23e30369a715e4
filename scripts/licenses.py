#!/usr/bin/env python3
"""Prints the license texts of every crate in the program: licenses.py [TARGET] > THIRD_PARTY_LICENSES.txt

The crates are those of `cargo tree` for the target (the host if none is given): no build tools, no tests. Crates with equal texts share
them. A crate without a license file fails the run, unless STANDARD names a crate with the text.
"""

import collections
import json
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = "vault-plugin-secrets-openai"
NAMES = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright)", re.IGNORECASE)
# Crates whose package has no license file, and a crate with the text of their license: tonic-prost is of tonic's repository (MIT), yamux
# is under Apache-2.0, among others.
STANDARD = {"tonic-prost": "tonic", "yamux": "prost"}


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True).stdout


def crates_of(target):
    """The packages that the program is linked from, as (name, version)."""
    lines = cargo(
        "tree", "--locked", "--package", PROGRAM, "--edges", "normal", "--target", target, "--prefix", "none", "--no-dedupe", "--format", "{p}"
    )  # fmt: skip
    found = {tuple(line.split()[:2]) for line in lines.splitlines() if line}
    return sorted((name, version.removeprefix("v")) for name, version in found if name != PROGRAM)


def texts_of(package):
    folder = Path(package["manifest_path"]).parent
    files = [file for file in folder.iterdir() if file.is_file() and NAMES.search(file.name) and file.suffix != ".rs"]
    for inside in ("LICENSES", "licenses"):
        if (folder / inside).is_dir():
            files += (folder / inside).iterdir()
    if package.get("license_file"):
        files.append(folder / package["license_file"])
    return [file.read_text(encoding="utf-8", errors="replace").strip() for file in sorted(set(files))]


def main(target):
    known = json.loads(cargo("metadata", "--locked", "--format-version", "1"))["packages"]
    packages = {(package["name"], package["version"]): package for package in known}
    by_name = {package["name"]: package for package in known}
    users, lacking = collections.defaultdict(list), []
    for crate in crates_of(target):
        package = packages[crate]
        texts = texts_of(package) or texts_of(by_name[STANDARD.get(package["name"], package["name"])])
        if not texts:
            lacking.append(f"{package['name']} {package['version']} ({package['license']})")
        for text in texts:
            users[text].append(f"{package['name']} {package['version']} ({package['license']})")
    if lacking:
        sys.exit("licenses.py: no license text in " + ", ".join(lacking))
    print(f"{PROGRAM} contains the following crates under the following licenses.")
    for text, crates in sorted(users.items(), key=lambda entry: entry[1]):
        print("\n" + "=" * 80)
        print(*crates, sep="\n")
        print("-" * 80 + "\n" + text)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    host = re.search(r"^host: (.+)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M).group(1)
    main(sys.argv[1] if len(sys.argv) == 2 else host)
