"""The table: ours, theirs, their ratio, and the bound that it must keep."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

BEGIN = "<!-- bench: written by `make bench` -->\n"
END = "<!-- end of bench -->"
HEAD = ("", "ours", "Go plugin", "ratio", "bound", "")


@dataclass(frozen=True)
class AtMost:
    ratio: float

    def holds(self, ratio):
        return ratio <= self.ratio

    def __str__(self):
        return f"at most {self.ratio:.2f}"


@dataclass(frozen=True)
class AtLeast:
    ratio: float

    def holds(self, ratio):
        return ratio >= self.ratio

    def __str__(self):
        return f"at least {self.ratio:.2f}"


@dataclass(frozen=True)
class Row:
    """One thing that was measured on both."""

    what: str
    unit: str
    ours: float
    theirs: float
    bound: AtMost | AtLeast | None = None

    @property
    def ratio(self):
        return self.ours / self.theirs

    @property
    def missed(self):
        return self.bound is not None and not self.bound.holds(self.ratio)

    def cells(self):
        verdict = "" if self.bound is None else "MISSED" if self.missed else "ok"
        values = (figure(self.ours, self.unit), figure(self.theirs, self.unit), f"{self.ratio:.2f}")
        return (self.what, *values, str(self.bound or ""), verdict)


def figure(value, unit):
    """Three digits that count."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f} {unit}".strip()


def markdown(rows):
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    # The first column and the last are words, the others figures.
    rule = ["-" * width if column in (0, len(HEAD) - 1) else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    texts = [" | ".join(align(cell, width, column) for column, (cell, width) in enumerate(zip(line, widths))) for line in lines]
    texts.insert(1, " | ".join(rule))
    return "\n".join(f"| {text} |" for text in texts)


def align(cell, width, column):
    return cell.ljust(width) if column in (0, len(HEAD) - 1) else cell.rjust(width)


def machine(server, quick):
    """What the figures were measured on, as one line."""
    words = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in words if line.startswith("model name")), platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 / 1e9
    shape = f"{os.cpu_count()} cores of {model}, {memory:.0f} GB, Linux {platform.release().split('-')[0]}"
    note = "; a quick run" if quick else ""
    return f"Server, OpenAI's simulator, clients and plugins on one machine: {shape}; {server}{note}. Load average at the end: {os.getloadavg()[0]:.1f}."


def keep(page, text):
    """Puts the text between the two marks, in place of the last."""
    before, rest = page.read_text().split(BEGIN, 1)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}")
