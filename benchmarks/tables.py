"""
What the runs of a cell come to: a row for each server, who is ranked, and the same table in plain text and in
Markdown.

A server is ranked when every answer in every round was right and its core was full in every round. Others
have the reason beside them; the rate of one that was not saturated stands in parentheses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from competitors import YARDSTICK

LATE = "did not keep up at half load"
MAX_WAIT = 0.05  # of the window; who waits longer for a core shares it with other work
KEPT_UP = 0.97  # of the messages that were due at half load
FULL = 0.95  # of a core: less than that, and it could have gone faster
UNSATURATED, LOAD_FULL = "not saturated", "not saturated: the load was"
DISTURBED = f"a core was taken away for over {MAX_WAIT:.0%} of the time, by other work here or on the host"
Run = dict[str, Any]


@dataclass
class Row:
    """
    One server in one cell.

    figures: medians over the rounds, by column; what is not known is not there.
    mark: why it is not ranked; empty when it is.
    disturbed: its figures, or some, are those of a busy machine.
    """

    server: str
    figures: dict[str, float] = field(default_factory=dict)
    mark: str = ""
    disturbed: bool = False


@dataclass(frozen=True)
class Column:
    """A figure's heading and how it is written."""

    heading: str
    digits: int


def cost_of(cell: dict[str, Any]) -> str:
    """Return which figure servers are ranked by: less is better."""
    return "bytes" if cell["mode"] == "idle" else "server_cpu_us"


def rows(cell: dict[str, Any]) -> list[Row]:
    """Return the servers that have figures, the cheapest first."""
    yardstick = cell["servers"].get(YARDSTICK, {}).get("runs", [])
    made = [
        row_of(name, it, yardstick, cost_of(cell))
        for name, it in cell["servers"].items()
        if it["runs"] and not it["failure"]
    ]
    return sorted(made, key=lambda row: row.figures[cost_of(cell)])


def row_of(name: str, it: dict[str, Any], yardstick: Sequence[Run], cost: str) -> Row:
    runs, half = it["runs"], it["half_load"]
    row = Row(name)
    for key in (cost, "rate", "p50_us", "p99_us", "p999_us", "wire_bytes"):
        if key in runs[0]:
            row.figures[key] = median(run[key] for run in runs)
    if "alone" in runs[0]:
        row.figures["alone_p99_us"] = median(run["alone"]["p99_us"] for run in runs)
    if yardstick:
        row.figures["cost_ratio"] = ratio(yardstick, runs, lambda limit, it: limit[cost] / it[cost])
        # Beside a yardstick that could have gone faster everybody would look better than they are.
        if "rate" in runs[0] and all(is_full(run, "server") for run in yardstick):
            row.figures["rate_ratio"] = ratio(yardstick, runs, lambda limit, it: it["rate"] / limit["rate"])
    if half:
        for key in ("rate", "p50_us", "p99_us", "p999_us"):
            row.figures[f"half_{key}"] = median(run[key] for run in half)
    if "rate" in runs[0] and not all(is_full(run, "server") for run in runs):
        row.mark = LOAD_FULL if all(is_full(run, "load") for run in runs) else UNSATURATED
    elif any(run["rate"] < KEPT_UP * run["rate_due"] for run in half):
        row.mark = LATE
    waits = ("server_wait_share", "load_wait_share", "stolen_share")
    alone = [run["alone"] for run in runs if "alone" in run]
    groups = [group for group in (runs, half, alone) if group]
    row.disturbed = any(
        median(run.get(key, 0) for run in group) > MAX_WAIT for group in groups for key in waits
    )
    return row


def is_full(run: Run, who: str) -> bool:
    """Return whether it could have done no more: it ran on its core, or waited for it, all the time."""
    return bool(run[f"{who}_cpu_share"] + run[f"{who}_wait_share"] >= FULL)


def ratio(yardstick: Sequence[Run], runs: Sequence[Run], of: Callable[[Run, Run], float]) -> float:
    """The median over the rounds of a comparison within each: what slows a whole round down cancels out."""
    return median(map(of, yardstick, runs))


def absent(cell: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the servers that have no row, and why."""
    failed = [(name, f"not ranked: {it['failure']}") for name, it in cell["servers"].items() if it["failure"]]
    return failed + [
        (name, f"left out: {it['left_out']}") for name, it in cell["servers"].items() if it["left_out"]
    ]


def columns(cell: dict[str, Any], found: Sequence[Row]) -> dict[str, Column]:
    """Return the columns that have a figure in some row, in order."""
    memory = cell["mode"] == "idle"
    possible = {
        cost_of(cell): Column(f"{'bytes' if memory else 'CPU us'}/{cell['unit']}", 0 if memory else 2),
        "cost_ratio": Column(f"{YARDSTICK}/it", 4 if memory else 2),
        "rate": Column("rate/s", 0),
        "rate_ratio": Column(f"it/{YARDSTICK}", 2),
        "p50_us": Column("p50 us", 0),
        "p99_us": Column("p99 us", 0),
        "p999_us": Column("p99.9 us", 0),
        "alone_p99_us": Column("p99 alone", 0),
        "half_p50_us": Column("half p50", 0),
        "half_p99_us": Column("half p99", 0),
        "half_p999_us": Column("half p99.9", 0),
    }
    if cell["deflate"]:
        possible["wire_bytes"] = Column("wire bytes", 0)
    return {key: column for key, column in possible.items() if any(key in row.figures for row in found)}


def cells_of(row: Row, shown: dict[str, Column]) -> list[str]:
    return [written(row, key, it.digits) for key, it in shown.items()]


def written(row: Row, key: str, digits: int) -> str:
    """Return a figure as text; the rate of one that could have gone faster in parentheses."""
    if key not in row.figures:
        return ""
    text = f"{row.figures[key]:,.{digits}f}"
    return f"({text})" if is_lower_bound(row) and key in ("rate", "rate_ratio") else text


def is_lower_bound(row: Row) -> bool:
    """Return whether a row's rate is only what the server reached at least."""
    return row.mark.startswith(UNSATURATED)


def notes(cell: dict[str, Any], found: Sequence[Row]) -> list[str]:
    made = [f"({cell['note']})"] if cell["note"] else []
    if any(map(is_lower_bound, found)):
        made.append(
            f"{UNSATURATED}: its core was not full in every round: it could have gone faster; not ranked"
        )
    if any(row.disturbed for row in found):
        made.append(f"~ {DISTURBED}")
    return made


def plain(name: str, cell: dict[str, Any]) -> str:
    """Return a cell's table for a terminal."""
    found = rows(cell)
    shown = columns(cell, found)
    lines = [f"{name}: {cell['description']}"]
    if found:
        lines.append(f"{'server':17}" + "".join(f"{it.heading:>{width_of(it)}}" for it in shown.values()))
    for row in found:
        line = f"{row.server:17}"
        for text, column in zip(cells_of(row, shown), shown.values(), strict=True):
            line += f"{text:>{width_of(column)}}"
        lines.append(line + (" ~" if row.disturbed else "") + (f"  {row.mark}" if row.mark else ""))
    lines += [f"{server:17}{why}" for server, why in absent(cell)]
    return "\n".join(lines + notes(cell, found))


def width_of(column: Column) -> int:
    return max(10, len(column.heading) + 2)


def markdown(cell: dict[str, Any]) -> str:
    """Return a cell's table for the report: its place by cost in front of each server that is ranked."""
    found = rows(cell)
    shown = columns(cell, found)
    lines = []
    if found:
        lines.append(" | ".join(["| ", "server", *(it.heading for it in shown.values())]) + " |")
        lines.append("|---:|---|" + "---:|" * len(shown))
    for number, row in enumerate(found, 1):
        server = f"{row.server}{' ~' if row.disturbed else ''}{f' ({row.mark})' if row.mark else ''}"
        rank = "" if row.mark else str(number)
        lines.append(" | ".join([f"| {rank}", server, *cells_of(row, shown)]) + " |")
    lines.append("")
    lines += [f"- {server}: {why}" for server, why in absent(cell)]
    lines += [f"- {note}" for note in notes(cell, found)]
    return "\n".join(lines).rstrip()
