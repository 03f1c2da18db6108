"""
One run as one JSON document; docs/bench.md describes it.

In: plan, target, outcome, conditions. Out: a dict of what JSON knows.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from fastws.bench.conducting import Outcome
from fastws.bench.judging import Condition, cpu_of_one, figures_of, saturated, warnings
from fastws.bench.observing import Use
from fastws.bench.plan import Plan
from fastws.bench.target import Target
from fastws.version import __version__

# Raised when a reader of the one before would misread something; new members alone do not raise it.
SCHEMA = "fastws-bench/1"


def report(
    plan: Plan, target: Target, outcome: Outcome, conditions: tuple[Condition, ...], began: datetime
) -> dict[str, Any]:
    """
    Return the document.

    Args:
        began: when the run was started, with its time zone.
    """
    latency = outcome.latencies.summary()
    handshakes = outcome.handshake_latencies.summary()
    figures = figures_of(outcome, latency)
    judged = [
        {
            "text": condition.text,
            "name": condition.name,
            "value": figures[condition.name],
            "met": condition.is_met(figures[condition.name]),
        }
        for condition in conditions
    ]
    errors = dict(outcome.errors.most_common())
    return {
        "schema": SCHEMA,
        "began": began.isoformat(timespec="seconds"),
        "plan": plan_of(plan, target),
        "environment": environment(),
        "totals": totals(plan, outcome),
        "latency": latency,
        "handshake_latency": handshakes,
        "errors": errors,
        "server": server_of(plan, outcome),
        "load": {
            "processes": [use_of(use) for use in outcome.loads],
            "stolen_share": round(outcome.stolen_share, 4),
        },
        "series": series(plan, outcome),
        "saturated": saturated(plan, outcome),
        "warnings": [dataclasses.asdict(warned) for warned in warnings(plan, outcome, latency)],
        "conditions": judged,
        "failure": outcome.failure,
        "interrupted": outcome.interrupted,
        "passed": not (errors or outcome.failure or any(one["met"] for one in judged)),
    }


def plan_of(plan: Plan, target: Target) -> dict[str, Any]:
    """Return what was asked for; header fields by name only, for they may be secrets."""
    return {
        "url": target.url,
        "address": target.describe(),
        **{
            name: value
            for name, value in dataclasses.asdict(plan).items()
            if name not in ("headers", "sizes", "cores", "subprotocols")
        },
        "sizes": [{"bytes": size, "weight": weight} for size, weight in plan.sizes],
        "headers": [name for name, _ in plan.headers],
        "subprotocols": list(plan.subprotocols),
        "cores": list(plan.cores),
        "interval": plan.interval,
    }


def environment() -> dict[str, Any]:
    """Return what it ran on."""
    return {
        "fastws": __version__,
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def processor() -> str | None:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)


def totals(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """Return what was counted in the window."""
    seconds = outcome.seconds

    def each_second(number: int) -> float:
        return round(number / seconds, 3) if seconds else 0.0

    return {
        "unit": plan.unit,
        "seconds": round(seconds, 6),
        "messages": outcome.messages,
        "handshakes": outcome.handshakes,
        "rate": each_second(outcome.done),
        "sent_bytes": outcome.sent_bytes,
        "received_bytes": outcome.received_bytes,
        "sent_bytes_per_second": each_second(outcome.sent_bytes),
        "received_bytes_per_second": each_second(outcome.received_bytes),
        "connections_opened": outcome.opened,
        "connections_left": outcome.left,
        "late": outcome.late,
        "unanswered": outcome.unanswered,
        "uncompressed": outcome.uncompressed,
        "stuck_closed": outcome.stuck_closed,
    }


def use_of(use: Use) -> dict[str, Any]:
    """Return one process's processor time."""
    return {"cpu_share": round(use.share, 4), "wait_share": round(use.wait_share, 4)}


def server_of(plan: Plan, outcome: Outcome) -> dict[str, Any] | None:
    """Return what was seen of the server; None when its process is not known."""
    if outcome.server is None:
        return None
    before, end = outcome.memory.get("before"), outcome.memory.get("end")
    each = None
    if plan.mode == "idle" and outcome.left and before is not None and end is not None:
        each = round((end - before) / outcome.left, 1)
    return {
        **use_of(outcome.server),
        "cpu_seconds": round(outcome.server.cpu_seconds, 6),
        "cpu_ns_per_unit": cpu_of_one(outcome),
        "busiest_thread_share": round(outcome.server.busiest_thread, 4),
        "memory": outcome.memory,
        "resident": outcome.resident,
        "memory_per_connection": each,
    }


def series(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """Return the window's intervals, a list for each figure."""
    points = outcome.series

    def each(name: str, digits: int | None = None) -> list[Any]:
        values = [getattr(point, name) for point in points]
        return values if digits is None else [v if v is None else round(v, digits) for v in values]

    return {
        "interval": plan.interval,
        "at": each("at"),
        "rate": each("rate", 1),
        "p50": each("p50"),
        "p99": each("p99"),
        "connections": each("connections"),
        "errors": each("errors"),
        "server_cpu": each("server_cpu", 4),
        "server_resident": each("server_rss"),
    }
