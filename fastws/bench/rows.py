"""
A report as rows of text, which screen and page show alike.

In: the document of `report`. Out: sections of (name, value), and numbers for people.
"""

from __future__ import annotations

from typing import Any

from fastws.bench.plan import PLURALS

Rows = list[tuple[str, str]]
LABELS = {
    "min": "min",
    "p50": "p50",
    "p90": "p90",
    "p99": "p99",
    "p999": "p99.9",
    "max": "max",
    "mean": "mean",
}


def duration(nanoseconds: float) -> str:
    """Return a time with three digits, as in "12.3 µs"."""
    if not nanoseconds:
        return "0"
    for limit, unit in ((1e3, "ns"), (1e6, "µs"), (1e9, "ms")):
        # What rounds up to 1000 belongs to the next unit.
        if nanoseconds < limit * 0.9995:
            return f"{short(nanoseconds * 1e3 / limit)} {unit}"
    return f"{short(nanoseconds / 1e9)} s"


def short(number: float) -> str:
    """Return a number with three digits."""
    if number >= 99.95 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def size(number: float) -> str:
    """Return bytes, as in "1.5 MiB"."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(number) >= 1024**power:
            return f"{'-' * (number < 0)}{short(abs(number) / 1024**power)} {unit}"
    return f"{number:,.0f} B"


def percent(number: float) -> str:
    """Return a share, with one more digit where it is small."""
    number *= 100
    return f"{number:.0f}%" if number >= 9.5 or number == round(number) else f"{number:.1f}%"


def sections(document: dict[str, Any]) -> list[tuple[str, Rows]]:
    """Return all that is worth showing, by headline."""
    found = [
        ("Load", load_rows(document)),
        ("Throughput", throughput_rows(document)),
        ("Latency", latency_rows(document["latency"])),
        ("Handshake latency", latency_rows(document["handshake_latency"])),
        ("Server", server_rows(document)),
        ("Errors", [(kind, f"{count:,}") for kind, count in document["errors"].items()]),
    ]
    if document["plan"]["mode"] == "storm":
        del found[3]
    return [(title, rows) for title, rows in found if rows]


def load_rows(document: dict[str, Any]) -> Rows:
    """What the server was loaded with."""
    plan, totals = document["plan"], document["totals"]
    rows = [("target", f"{plan['url']} ({plan['address']})"), ("mode", describe(plan))]
    if plan["mode"] != "storm":
        left = f", {totals['connections_left']:,} left" if document["series"]["at"] else ""
        rows.append(
            ("connections", f"{totals['connections_opened']:,} of {plan['connections']:,} opened{left}")
        )
    rows.append(("window", f"{totals['seconds']:.3g} s of {plan['duration']:g} s"))
    used = [f"{process['cpu_share']:.0%}" for process in document["load"]["processes"]]
    if used:
        rows.append(("load's processor time", f"{', '.join(used)} of a core"))
    return rows


def describe(plan: dict[str, Any]) -> str:
    """Return what a load sends."""
    mode = plan["mode"]
    if mode == "idle":
        return "idle"
    if mode == "storm":
        return f"storm, {plan['connections']:,} at a time"
    parts = [
        mode,
        f"{plan['kind']} of " + ", ".join(weighted(one, len(plan["sizes"])) for one in plan["sizes"]),
    ]
    if plan["rate"] is not None:
        parts.append(f"open loop at {plan['rate']:,.0f}/s")
    else:
        parts.append(f"{plan['in_flight']} in flight")
    if plan["fragments"] > 1:
        parts.append(f"{plan['fragments']} frames each")
    if plan["deflate"]:
        parts.append("permessage-deflate")
    if plan["stuck"]:
        parts.append(f"{plan['stuck']} stuck")
    return ", ".join(parts)


def weighted(one: dict[str, Any], number: int) -> str:
    """Return a size of several, with its weight."""
    return size(one["bytes"]) + (f" ({one['weight']:g})" if number > 1 else "")


def throughput_rows(document: dict[str, Any]) -> Rows:
    """What was done in the window."""
    totals = document["totals"]
    if document["plan"]["mode"] == "idle" or not totals["seconds"]:
        return []
    number = totals["handshakes" if document["plan"]["mode"] == "storm" else "messages"]
    rows = [
        (PLURALS[document["plan"]["mode"]], f"{number:,}"),
        ("rate", f"{totals['rate']:,.0f} /s"),
        ("sent", f"{size(totals['sent_bytes_per_second'])}/s"),
        ("received", f"{size(totals['received_bytes_per_second'])}/s"),
    ]
    if totals["late"]:
        rows.append(("due, not sent", f"{totals['late']:,}"))
    return rows


def latency_rows(latency: dict[str, Any] | None) -> Rows:
    """Percentiles."""
    if latency is None:
        return []
    return [(label, duration(latency[name])) for name, label in LABELS.items()]


def server_rows(document: dict[str, Any]) -> Rows:
    """What was seen of the server."""
    server = document["server"]
    if server is None:
        return []
    rows = [("processor time", f"{percent(server['cpu_share'])} of a core")]
    if server["cpu_ns_per_unit"] is not None:
        rows.append((f"for one {document['totals']['unit']}", duration(server["cpu_ns_per_unit"])))
    for name, label in (("memory", "memory"), ("resident", "resident set")):
        values = server[name]
        if values.get("before") is not None and values.get("end") is not None:
            rows.append((label, f"{size(values['before'])} before, {size(values['end'])} at the end"))
    if server["memory_per_connection"] is not None:
        rows.append(("for one connection", f"{server['memory_per_connection']:,.0f} B"))
    return rows


def verdicts(document: dict[str, Any]) -> list[tuple[bool, str]]:
    """Return what failed (True) and what was warned of, in words."""
    found = []
    if document["failure"]:
        found.append((True, document["failure"]))
    number = sum(document["errors"].values())
    if number:
        found.append((True, f"{number:,} error{'s' * (number > 1)}"))
    for condition in document["conditions"]:
        if condition["met"]:
            seen = "it was not measured" if condition["value"] is None else f"it is {worded(condition)}"
            found.append((True, f"{condition['text']}: {seen}"))
    found += [(False, warned["text"]) for warned in document["warnings"]]
    return found


def worded(condition: dict[str, Any]) -> str:
    """Return a condition's figure with its unit."""
    name, value = condition["name"], condition["value"]
    if name in ("rate", "errors", "connections"):
        return f"{value:,.0f}"
    return size(value) if name == "memory" else duration(value)
