"""draw.py DATA FOLDER: draws each dashboard whose data the test of the panels left in DATA, as FOLDER/dashboard-NAME.png.

`cargo xtask dashboards` runs it. Grafana is not needed: the panels are those of the dashboard's document, at their places.
"""

import json
import math
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

# Grafana's unit: the factor by which values are drawn, and how they are named.
UNITS = {
    "s": (1000, "ms"),
    "percentunit": (100, "%"),
    "bytes": (2**-20, "MiB"),
    "reqps": (1, "/s"),
    "ops": (1, "/s"),
    "bool_yes_no": (1, "1: yes"),
    "short": (1, ""),
}
ROW = 0.30  # inches of a row of Grafana's grid
COLUMNS = 24
FEW, LEGEND = 6, 12  # entries of a legend: all series are named, at most named


def series(panel):
    """The name of each series and its points in the unit of the panel."""
    factor, _ = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    for target in panel["targets"]:
        for one in target["series"]:
            points = [(time, float(value) * factor) for time, value in one["values"]]
            label = lambda match: one["metric"].get(match[1], "")
            name = re.sub(r"{{(\w+)}}", label, target["legendFormat"])
            if not all(math.isnan(value) for _, value in points):
                yield name, points


def highest(points):
    return max(value for _, value in points if not math.isnan(value))


def draw_number(axes, found):
    """The last value of each series, as a stat panel of Grafana."""
    axes.axis("off")
    for position, (name, points) in enumerate(found):
        x = (position + 0.5) / len(found)
        value = [value for _, value in points if not math.isnan(value)][-1]
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        axes.text(x, 0.5, text, fontsize=18 if len(found) == 1 else 13, ha="center", va="center", transform=axes.transAxes)
        if len(found) > 1 or name[:1].isdigit():
            axes.text(x, 0.1, name, fontsize=8, ha="center", va="center", transform=axes.transAxes)


def draw_lines(axes, found, begin, seconds):
    """Of many series, those that are 0 throughout are not named."""
    found.sort(key=lambda one: -highest(one[1]))
    for name, points in found:
        axes.plot([time - begin for time, _ in points], [value for _, value in points], label=name, linewidth=1.2)
    axes.set_xlim(0, seconds)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(style="plain", useOffset=False)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    handles, names = axes.get_legend_handles_labels()
    shown = len(found)
    if shown > FEW:
        shown = max(1, sum(highest(points) > 0 for _, points in found))
        shown = min(shown, LEGEND)
    names = names[:shown]
    if shown < len(found):
        names[-1] += f" ({len(found) - shown} others are 0)" if shown < LEGEND else " and others"
    axes.legend(handles[:shown], names, fontsize=6, ncol=2, loc="best")


def draw_row(figure, title, height):
    """The heading of the panels below it."""
    figure.text(0.01, height, title, fontsize=11, fontweight="bold", ha="left", va="center")
    figure.add_artist(pyplot.Line2D((0.2, 0.99), (height, height), color="lightgrey", linewidth=1))


def draw(dashboard, path):
    panels, seconds = dashboard["panels"], dashboard["seconds"]
    begin = min(points[0][0] for panel in panels if panel["type"] != "row" for _, points in series(panel))
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 2
    figure = pyplot.figure(figsize=(15, rows * ROW))
    figure.text(0.5, 1 - 0.9 / rows, dashboard["title"], fontsize=14, ha="center", va="center")
    for panel in panels:
        place = panel["gridPos"]
        if panel["type"] == "row":
            draw_row(figure, panel["title"], 1 - (place["y"] + place["h"] / 2 + 2.1) / rows)
            continue
        left, width = place["x"] / COLUMNS + 0.035, place["w"] / COLUMNS - 0.05
        bottom = 1 - (place["y"] + place["h"] + 1.2) / rows
        axes = figure.add_axes((left, bottom, width, (place["h"] - 2.2) / rows))
        _, unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
        axes.set_title(panel["title"] + (f" [{unit}]" if unit else ""), fontsize=9, loc="left")
        found = list(series(panel))
        if panel["type"] == "stat":
            draw_number(axes, found)
        else:
            draw_lines(axes, found, begin, seconds)
    figure.savefig(path, dpi=75)


data, folder = map(Path, sys.argv[1:])
for file in sorted(data.glob("*.json")):
    draw(json.loads(file.read_text()), folder / f"dashboard-{file.stem}.png")
    print(folder / f"dashboard-{file.stem}.png")
