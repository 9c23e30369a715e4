#!/usr/bin/env python3
"""Draws the terminal of a run of the demo as an animated SVG.

usage: scripts/cast.py [--from CHAPTER] [--to CHAPTER] [--transcript FILE] [OUTPUT]

Runs scripts/demo.sh (or takes the transcript of a run) and draws its chapters from the first whose title begins with --from to the
last before --to. Without OUTPUT it writes docs/images/demo.svg.
"""

import argparse
import re
import subprocess
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 100, 26
CHARACTER, LINE, MARGIN, BAR = 8.4, 19, 16, 34
# Seconds: a typed character, the pause after a command, after a line of output, after a chapter's title, and at the end.
TYPED, RUN, OUTPUT, TITLE, END = 0.02, 0.5, 0.04, 0.4, 6.0


@dataclass(frozen=True)
class Line:
    text: str
    kind: str
    time: float


def transcript():
    output = subprocess.run(["scripts/demo.sh"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return output.stdout


def chosen(text, first, last):
    """The lines of the chosen chapters."""
    lines, taken = [], False
    for line in text.splitlines():
        if line.startswith("== "):
            title = line[3:]
            if title.startswith(first):
                taken = True
            elif last and title.startswith(last):
                break
        if taken:
            lines.append(line)
    if not lines:
        raise SystemExit(f"cast.py: no chapter begins with {first!r}")
    return lines


def timed(lines):
    """Each line with its kind and the second at which it appears; a line that is too long ends in an ellipsis."""
    time, continues, result = 0.3, False, []
    for text in lines:
        command = text.startswith("$ ") or continues
        kind = "title" if text.startswith("== ") else "command" if command else "output"
        continues = command and text.endswith("\\")
        # No scanner for secrets has to look at a key, though it is a simulated one.
        shown = re.sub(r"(sk-\S{17})\S+", r"\1…", text[3:] if kind == "title" else text)
        shown = shown if len(shown) <= COLUMNS else shown[: COLUMNS - 1] + "…"
        if kind == "command":
            time += TYPED * len(shown)
        result.append(Line(shown, kind, time))
        time += {"title": TITLE, "command": RUN, "output": OUTPUT}[kind]
    return result


def svg(lines):
    total = lines[-1].time + END
    width, height = MARGIN * 2 + COLUMNS * CHARACTER, BAR + MARGIN * 2 + ROWS * LINE

    def percent(time):
        return f"{100 * time / total:.2f}%"

    rules, texts, scroll = [], [], ["0%{transform:translateY(0)}"]
    for number, line in enumerate(lines):
        if line.text:
            rules.append(f"@keyframes l{number}{{0%,{percent(line.time - 0.01)}{{opacity:0}}{percent(line.time)},100%{{opacity:1}}}}")
            baseline = (number + 1) * LINE - 5
            style = f"animation:l{number} {total:.1f}s step-end infinite"
            texts.append(f'<text class="{line.kind}" y="{baseline}" style="{style}">{escape(line.text)}</text>')
        hidden = max(0, number + 1 - ROWS) * LINE
        if hidden:
            scroll.append(f"{percent(line.time)}{{transform:translateY(-{hidden}px)}}")
    last = max(0, len(lines) - ROWS) * LINE
    scroll.append(f"100%{{transform:translateY(-{last}px)}}")
    dots = "".join(f'<circle cx="{20 + 20 * at}" cy="17" r="6" fill="{color}"/>' for at, color in enumerate(("#ff5f56", "#ffbd2e", "#27c93f")))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}" role="img" xml:space="preserve">
<title>A run of the demo</title>
<style>
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#c9d1d9;white-space:pre}}
.command{{fill:#79c0ff}} .title{{fill:#ffffff;font-weight:bold}}
#scroll{{animation:scroll {total:.1f}s step-end infinite}}
@keyframes scroll{{{"".join(scroll)}}}
{"".join(rules)}
@media (prefers-reduced-motion:reduce){{text,#scroll{{animation:none!important}}}}
</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>{dots}
<svg x="{MARGIN}" y="{BAR + MARGIN // 2}" width="{COLUMNS * CHARACTER:.0f}" height="{ROWS * LINE}"><g id="scroll" transform="translate(0 -{last})">
{chr(10).join(texts)}
</g></svg>
</svg>
"""


def main():
    parser = argparse.ArgumentParser(description="Draws the terminal of a run of the demo as an animated SVG.")
    parser.add_argument("--from", dest="first", default="First way")
    parser.add_argument("--to", dest="last", default="Second way")
    parser.add_argument("--transcript", type=Path)
    parser.add_argument("output", nargs="?", type=Path, default=ROOT / "docs/images/demo.svg")
    arguments = parser.parse_args()
    text = arguments.transcript.read_text() if arguments.transcript else transcript()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(svg(timed(chosen(text, arguments.first, arguments.last))))


if __name__ == "__main__":
    main()
