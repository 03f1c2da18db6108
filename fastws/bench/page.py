"""
A report as one page, which needs nothing besides itself: no script, no network.

In: the document of `report`. Out: HTML.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from importlib import resources
from typing import Any

from fastws.bench.charts import HALF, WIDE, Axis, Line, chart, linear_axis, log_axis
from fastws.bench.figures import curve
from fastws.bench.plan import PLURALS
from fastws.bench.rows import describe, duration, percent, sections, size, verdicts

STYLE = resources.files("fastws.bench").joinpath("page.css").read_text(encoding="utf-8")
HITS = 150  # places on the distribution where the pointer tells more
STEEP = 10.0  # times the middle: what is longer makes an axis logarithmic


def page(document: dict[str, Any]) -> str:
    """Return the page."""
    url, plan = document["plan"]["url"], document["plan"]
    passed = document["passed"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(plan['mode'])} on {escape(url)}</title>",
        f"<style>{STYLE}</style></head><body><main>",
        f'<header><h1>{escape(url)}</h1><span class="badge {"good" if passed else "bad"}">'
        f"{'passed' if passed else 'failed'}</span>",
        f"<p>{escape(describe(plan))} &middot; {plan['connections']:,} connections &middot; "
        f"{plan['processes']} process{'es' * (plan['processes'] > 1)} &middot; "
        f"{escape(when(document))}</p></header>",
        tiles(document),
        notices(document),
        *charts_of(document),
        tables(document),
        f"<footer>fastws bench {escape(document['environment']['fastws'])}; "
        "times in charts are where an interval ends</footer>",
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def when(document: dict[str, Any]) -> str:
    """Return when it was, without the letters of ISO 8601."""
    return str(document["began"]).replace("T", " ").replace("+00:00", " UTC")


def tiles(document: dict[str, Any]) -> str:
    """Return the few figures that most readers came for."""
    totals, latency, server = document["totals"], document["latency"], document["server"]
    shown: list[tuple[str, str]] = []
    if document["plan"]["mode"] != "idle":
        shown.append((f"{PLURALS[document['plan']['mode']]}/s", f"{totals['rate']:,.0f}"))
    if latency is not None:
        shown += [
            (label, duration(latency[key]))
            for key, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))
        ]
    shown.append(("connections", f"{totals['connections_left']:,}"))
    shown.append(("errors", f"{sum(document['errors'].values()):,}"))
    if server is not None:
        shown.append(("server CPU", percent(server["cpu_share"])))
        if server["memory_per_connection"] is not None:
            shown.append(("for one connection", f"{server['memory_per_connection']:,.0f} B"))
        elif server["cpu_ns_per_unit"] is not None:
            shown.append((f"CPU/{totals['unit']}", duration(server["cpu_ns_per_unit"])))
    inner = "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b></div>' for name, value in shown
    )
    return f'<div class="tiles">{inner}</div>'


def notices(document: dict[str, Any]) -> str:
    """Return what failed, and warnings."""
    found = verdicts(document)
    if document["interrupted"]:
        found.append((False, "the run was interrupted: these are the figures until then"))
    items = "".join(
        f'<li class="{style}"><b>{word}</b> {escape(text)}</li>'
        for style, word, text in (
            ("bad", "failed", text) if failed else ("warn", "warning", text) for failed, text in found
        )
    )
    return f'<ul class="verdicts">{items}</ul>' if items else ""


def card(title: str, inner: str, legend: tuple[tuple[str, str], ...] = ()) -> str:
    """Return a box with a headline."""
    names = "".join(f'<i class="{style}"></i>{escape(name)}' for style, name in legend)
    return (
        '<section class="card">'
        + (f'<span class="legend">{names}</span>' if names else "")
        + f"<h2>{escape(title)}</h2>{inner}</section>"
    )


# ---- charts


def charts_of(document: dict[str, Any]) -> list[str]:
    """Return the charts for which there are figures."""
    found = []
    latency, series = document["latency"], document["series"]
    if latency is not None:
        title = (
            "Handshake latency by percentile"
            if document["plan"]["mode"] == "storm"
            else "Latency by percentile"
        )
        found.append(card(title, distribution(title, latency)))
    if not series["at"]:
        return found
    pair = []
    if document["plan"]["mode"] == "idle":
        pair.append(over_time("Connections", series, ("connections",), "{:,.0f}".format))
    else:
        title = f"{PLURALS[document['plan']['mode']].capitalize()} a second"
        pair.append(over_time(title, series, ("rate",), "{:,.0f}".format))
        if any(value is not None for value in series["p99"]):
            pair.append(over_time("Latency, p50 and p99", series, ("p50", "p99"), duration))
    if any(value is not None for value in series["server_cpu"]):
        pair.append(over_time("Server's processor time, of a core", series, ("server_cpu",), percent))
        pair.append(over_time("Server's resident set", series, ("server_resident",), size, binary=True))
    found.append(f'<div class="pair">{"".join(pair)}</div>')
    return found


def latency_axis(values: list[float]) -> Axis:
    """Return an axis for latencies: logarithmic if the longest is far from the middle."""
    ordered = sorted(values)
    if ordered[-1] > STEEP * max(ordered[len(ordered) // 2], 1):
        return log_axis(max(ordered[0], 1), ordered[-1], duration)
    return linear_axis(0, ordered[-1], duration)


def distribution(title: str, latency: dict[str, Any]) -> str:
    """Return latencies over 1 / (1 - share), so that 90 %, 99 % and 99.9 % are equally far apart."""
    points = curve(latency["histogram"])
    most = max(points[-1][0], 10.0)
    ticks = [(1.0, "0%"), (2.0, "50%"), *((10.0**power, nines(power)) for power in range(1, 10))]
    x = Axis(
        1.0,
        most,
        tuple(tick for tick in ticks if tick[0] <= most),
        log=True,
        label="share of latencies below",
    )
    ratio = latency["max"] / max(latency["p50"], 1)
    if ratio > STEEP:
        y = log_axis(max(latency["min"], 1), latency["max"], duration)
    else:
        y = linear_axis(0, latency["max"], duration)
    return chart(title, WIDE, x, y, [Line(points, area=True)], distribution_hits(points, most))


def nines(power: int) -> str:
    """Return 90 %, 99 %, 99.9 %, ... for powers of ten."""
    return f"{100 - 100 / 10**power:.{max(power - 2, 0)}f}%"


def distribution_hits(points: list[tuple[float, int]], most: float) -> list[tuple[float, str]]:
    """Return what to say at places evenly spread over the logarithmic axis."""
    hits = []
    index = 0
    for number in range(HITS + 1):
        at = most ** (number / HITS)
        while index + 1 < len(points) and points[index][0] < at * (1 - 1e-9):
            index += 1
        share = 100 - 100 / at
        digits = max(math.ceil(math.log10(at)) - 1, 0) + 1
        hits.append((at, f"{share:.{digits}f}% are at most {duration(points[index][1])}"))
    return hits


def over_time(
    title: str,
    series: dict[str, Any],
    names: tuple[str, ...],
    show: Callable[[float], str],
    *,
    binary: bool = False,
) -> str:
    """Return one or two figures over the window, in a card."""
    at = series["at"]
    values = [value for name in names for value in series[name] if value is not None]
    x = linear_axis(0, at[-1], "{:g} s".format)
    y = latency_axis(values) if show is duration else linear_axis(0, max(values) or 1.0, show, binary=binary)
    # The axis of time ends where the window does.
    x = Axis(0, at[-1], tuple(tick for tick in x.ticks if tick[0] <= at[-1] * 1.001))
    lines = [
        Line(list(zip(at, series[name], strict=True)), style, name, area=len(names) == 1)
        for name, style in zip(names, "ab", strict=False)
    ]
    hits = []
    for number, moment in enumerate(at):
        seen = [(name, series[name][number]) for name in names]
        words = [
            (f"{name} " if len(names) > 1 else "") + ("none" if value is None else show(value))
            for name, value in seen
        ]
        hits.append((moment, f"{moment:g} s: {', '.join(words)}"))
    legend = tuple((line.style, line.name) for line in lines) if len(names) > 1 else ()
    return card(title, chart(title, HALF, x, y, lines, hits), legend)


# ---- tables


def tables(document: dict[str, Any]) -> str:
    """Return all figures, the plan and what it ran on."""
    boxes = [card(title, table(rows)) for title, rows in sections(document)]
    plan = [
        (name.replace("_", " "), words(value))
        for name, value in document["plan"].items()
        if value not in (None, [])
    ]
    boxes.append(card("Plan", table(plan)))
    boxes.append(
        card("Environment", table([(name, words(value)) for name, value in document["environment"].items()]))
    )
    return f'<div class="tables">{"".join(boxes)}</div>'


def table(rows: list[tuple[str, str]]) -> str:
    """Return rows as a table."""
    inner = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{inner}</table>"


def words(value: Any) -> str:
    """Return a member of the document as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(
            f"{one['bytes']} B: {one['weight']:g}" if isinstance(one, dict) else str(one) for one in value
        )
    return f"{value:g}" if isinstance(value, float) else str(value)
