"""
Charts of a run, as SVG: one panel for each cell, one bar or line for each server.

The background is transparent and all text is of a grey that has a contrast above 4:1 on white and on GitHub's
dark page. A server has the same colour everywhere, fastws the warm ones; its name stands beside its bar, so
that colour tells nothing by itself. Bars of servers that are not ranked are hatched. Needs matplotlib.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import tables
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

INK = "#757a81"
GRID = "#757a8140"
COLOURS = {
    "limit": "#8d939b",
    "fastws": "#e5532d",
    "coroutines": "#ec7a3c",
    "streams": "#d99a2b",
    "uvicorn-fastws": "#cf4f63",
    "picows": "#2f86d6",
    "websockets": "#5a7fd8",
    "aiohttp": "#3f9fc4",
    "tornado": "#3a9a9d",
    "socketify": "#6f74cf",
    "uvicorn-sansio": "#9a6fc9",
    "uvicorn-wsproto": "#b27cc4",
    "granian": "#8c6fa6",
    "granian-rsgi": "#a07fb5",
    "node": "#4c9a50",
    "bun": "#8f9440",
    "deno": "#56a583",
}
OTHER = "#8d939b"
RATE = "{units} a second; more is better"
OVERVIEW = ("echo-64", "echo-64x16")
WIDTH, BAR, PANEL = 10.5, 0.235, 0.95  # inches: of a chart, for each bar, and for what is around them
TITLE = 56  # characters in a line
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and in the reader's own font
    "svg.hashsalt": "fastws",  # the same figures give the same file
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": GRID,
    "hatch.linewidth": 0.6,
}
PARTS = (("half_p50_us", "o", "p50"), ("half_p99_us", "D", "p99"), ("half_p999_us", "|", "p99.9"))


def draw(results: dict[str, Any], place: Path) -> list[str]:
    """Write the charts that the results have figures for. Returns their file names."""
    cells = results["cells"]
    timed = [name for name, cell in cells.items() if cell["mode"] != "idle"]
    charts: dict[str, tuple[list[str], str, Callable[[float], str], str]] = {
        "overview": ([name for name in OVERVIEW if name in cells], "rate", rate_label, RATE),
        "rate": (timed, "rate", rate_label, RATE),
        "cpu": (
            timed,
            "server_cpu_us",
            "{:.2f}".format,
            "microseconds of processor time for each {unit}; less is better",
        ),
        "memory": (
            [name for name in cells if name not in timed],
            "bytes",
            "{:,.0f}".format,
            "bytes for each {unit}; less is better",
        ),
    }
    written = []
    for chart, (names, key, label, axis) in charts.items():
        panels = [(name, [row for row in tables.rows(cells[name]) if key in row.figures]) for name in names]
        if panels := [(name, found) for name, found in panels if found]:
            bars(place / f"{chart}.svg", cells, panels, key, label, axis)
            written.append(f"{chart}.svg")
    halves = [
        (name, [row for row in tables.rows(cell) if "half_p50_us" in row.figures])
        for name, cell in cells.items()
    ]
    if halves := [(name, found) for name, found in halves if found]:
        latencies(place / "latency.svg", cells, halves)
        written.append("latency.svg")
    return written


def rate_label(value: float) -> str:
    if value < 10_000:
        return f"{value:,.0f}"
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.1f} k"


def figure_of(panels: Sequence[tuple[str, list[tables.Row]]]) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each cell, two beside each other, and the panels."""
    across = min(2, len(panels))
    heights = [
        max(len(found) for _, found in panels[at : at + across]) * BAR + PANEL
        for at in range(0, len(panels), across)
    ]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
    axes = [axis for row in grid for axis in row]
    for axis in axes[len(panels) :]:
        axis.remove()
    return figure, axes[: len(panels)]


def prepare_axis(
    axis: Axes, cell: tuple[str, dict[str, Any]], found: Sequence[tables.Row], label: str
) -> None:
    name, about = cell
    title = "\n".join(textwrap.wrap(f"{name}: {about['description']}", TITLE))
    axis.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
    axis.set_yticks(range(len(found)), [row.server for row in found], fontweight="bold")
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_xlabel(label, fontsize=8, loc="left")
    axis.set_facecolor("none")
    axis.tick_params(length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def bars(
    path: Path,
    cells: dict[str, Any],
    panels: Sequence[tuple[str, list[tables.Row]]],
    key: str,
    text: Callable[[float], str],
    label: str,
) -> None:
    with matplotlib.rc_context(STYLE):
        figure, axes = figure_of(panels)
        for (name, found), axis in zip(panels, axes, strict=True):
            in_order = sorted(found, key=lambda row: -row.figures[key] if key == "rate" else row.figures[key])
            unit = cells[name]["unit"]
            largest = max(row.figures[key] for row in found)
            prepare_axis(axis, (name, cells[name]), in_order, label.format(unit=unit, units=plural(unit)))
            axis.set_xticks([])  # each bar says its own figure
            for at, row in enumerate(in_order):
                value = max(row.figures[key], 0)
                bar = axis.barh(at, value, height=0.72, color=COLOURS.get(row.server, OTHER))
                if row.mark:
                    bar[0].set(hatch="////", alpha=0.55, edgecolor=INK)
                least = (
                    "\N{GREATER-THAN OR EQUAL TO} " if key == "rate" and tables.is_lower_bound(row) else ""
                )
                note = least + text(row.figures[key]) + (f"  ({row.mark})" if row.mark else "")
                beside(axis, value, at, note)
            axis.set_xlim(0, largest * (1.45 if any(row.mark for row in found) else 1.18))
        save(figure, path)


def latencies(path: Path, cells: dict[str, Any], panels: Sequence[tuple[str, list[tables.Row]]]) -> None:
    """Draw p50, p99 and p99.9 at half load on one logarithmic line for each server."""
    with matplotlib.rc_context(STYLE):
        figure, axes = figure_of(panels)
        for (name, found), axis in zip(panels, axes, strict=True):
            found = sorted(found, key=lambda row: row.figures["half_p99_us"])
            label = (
                "microseconds at half of the server's own rate: o p50, \N{BLACK DIAMOND SUIT} p99, | p99.9"
            )
            prepare_axis(axis, (name, cells[name]), found, label)
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 3)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.grid(axis="x", color=GRID, linewidth=0.6)
            axis.set_axisbelow(True)
            for at, row in enumerate(found):
                colour = COLOURS.get(row.server, OTHER)
                values = [max(row.figures[key], 1) for key, _, _ in PARTS]
                axis.plot([values[0], values[-1]], [at, at], color=colour, linewidth=2, alpha=0.6)
                for value, (_, marker, _) in zip(values, PARTS, strict=True):
                    axis.plot(
                        value,
                        at,
                        marker,
                        color=colour,
                        markersize=9 if marker == "|" else 5,
                        markeredgewidth=2,
                    )
                note = f"p99 {values[1]:,.0f} at {rate_label(row.figures['half_rate'])}/s"
                note += f"  ({row.mark})" if row.mark == tables.LATE else ""
                beside(axis, values[-1], at, note)
            low, high = axis.get_xlim()
            axis.set_xlim(low, high * (high / low) ** 0.45)
        save(figure, path)


def beside(axis: Axes, x: float, y: float, text: str) -> None:
    axis.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)


def plural(unit: str) -> str:
    return "deliveries" if unit == "delivery" else f"{unit}s"


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})
