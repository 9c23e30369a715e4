#!/usr/bin/env python3
"""Draws the time series of docs/monitoring/dashboard.json from a Prometheus, each panel with the dashboard's own queries.

usage: dashboard_picture.py PROMETHEUS_URL MINUTES PICTURE   (needs matplotlib)
"""

import json
import re
import sys
import time
import urllib.parse
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import dates, pyplot  # noqa: E402  (after the backend is chosen)
from PIL import Image  # noqa: E402

DASHBOARD = Path(__file__).parent.parent / "docs/monitoring/dashboard.json"
PANELS = [
    "Issued", "Live", "Waiting for their deletion",
    "Calls", "Errors", "Latency",
    "Rotations", "Library accounts", "Check-outs",
    "Token exchanges", "Identity tokens", "Waits for a turn",
]  # fmt: skip
COLUMNS = 3


def samples(prometheus, expression, minutes):
    """The series of an expression: labels, times, values."""
    expression = expression.replace("$mount", ".*").replace("$__rate_interval", "20s")
    # An hour is more than there is to show.
    expression = expression.replace("[1h]", f"[{minutes}m]")
    now = time.time()
    query = {"query": expression, "start": now - minutes * 60, "end": now, "step": 3}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}") as answer:
        for series in json.load(answer)["data"]["result"]:
            points = [(datetime.fromtimestamp(at), float(value)) for at, value in series["values"]]
            yield series["metric"], *zip(*points)


def short(text):
    """An endpoint as its method and last segments."""
    return re.sub(r"/organization/(projects/\{project_id\}/)?", "", text)


def draw(axes, panel, prometheus, minutes):
    axes.set_title(panel["title"], fontsize=9, loc="left")
    for target in panel["targets"]:
        legend = target.get("legendFormat", "")
        for labels, times, values in samples(prometheus, target["expr"], minutes):
            if not any(values):
                continue
            name = re.sub(r"\{\{(\w+)\}\}", lambda found: short(labels.get(found[1], "")), legend)
            axes.plot(times, values, linewidth=1.1, label=name or panel["title"])
    now = datetime.now()
    axes.set_xlim(now - timedelta(minutes=minutes), now)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(dates.MinuteLocator())
    axes.tick_params(labelsize=6)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=5.5, loc="upper left", framealpha=0.6)


def main(prometheus, minutes, picture):
    panels = {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text())["panels"]}
    figure, grid = pyplot.subplots(len(PANELS) // COLUMNS, COLUMNS, figsize=(12, 10), layout="constrained")
    for axes, title in zip(grid.flat, PANELS):
        draw(axes, panels[title], prometheus, minutes)
    figure.savefig(picture, dpi=90)
    # Few colours are enough, and a small file.
    Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
