"""
What figures are worth, and what fails.

In: a plan and an outcome. Out: who was saturated, warnings, conditions (`--fail-if`) that are met.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastws.bench.conducting import Outcome
from fastws.bench.plan import Plan

FULL = 0.97  # of a core: a process of the load has no time left
SERVER_FULL = 0.95
KEPT = 0.99  # of the rate that was asked for
WAITED = 0.05  # of the window; who waits longer for a core shares it with other work
FEW = 1000  # latencies: the slowest in a thousand is one

LATENCY_UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
COUNT_UNITS = {"": 1.0, "k": 1e3, "M": 1e6}
MEMORY_UNITS = {"": 1.0, "k": 1024.0, "M": 1024.0**2, "G": 1024.0**3}
UNITS = {
    **dict.fromkeys(("p50", "p90", "p99", "p999", "max", "mean", "cpu"), LATENCY_UNITS),
    **dict.fromkeys(("rate", "errors", "connections"), COUNT_UNITS),
    "memory": MEMORY_UNITS,
}
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
CONDITION = re.compile(r"\s*([a-z]\w*)\s*([<>]=?)\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*")


class ConditionError(ValueError):
    """A condition that cannot be read; the text says what is allowed."""


@dataclass(frozen=True)
class Condition:
    """
    When a run fails, as "p99>5ms".

    Attributes:
        text: as it was given.
        name: of the figure.
        limit: in nanoseconds, bytes, or just a number.
    """

    text: str
    name: str
    operator: str
    limit: float

    def is_met(self, value: float | None) -> bool:
        """Tell whether the run fails; a figure that there is not fails it, too."""
        return value is None or OPERATORS[self.operator](value, self.limit)


@dataclass(frozen=True)
class Warned:
    """Why figures may not be what they seem; `code` is for programs."""

    code: str
    text: str


def parse_condition(text: str) -> Condition:
    """
    Read a condition: NAME OPERATOR NUMBER, and a unit.

    Raises: ConditionError.
    """
    match = CONDITION.fullmatch(text)
    if match is None:
        raise ConditionError(
            f"condition is {text!r}, expected a name, an operator and a number with its unit, "
            f"as in p99>5ms; names are {', '.join(UNITS)}, operators {' '.join(OPERATORS)}"
        )
    name, operation, number, unit = match.groups()
    if name not in UNITS:
        raise ConditionError(f"{text!r} is about {name!r}, allowed are {', '.join(UNITS)}")
    units = UNITS[name]
    if unit not in units:
        seen = repr(unit) if unit else "missing"
        allowed = ", ".join(unit for unit in units if unit) + (" or none" if "" in units else "")
        raise ConditionError(f"the unit of {text!r} is {seen}, allowed for {name} are {allowed}")
    return Condition(text.strip(), name, operation, float(number) * units[unit])


def check_condition(condition: Condition, mode: str, *, server_known: bool) -> None:
    """Raises: ConditionError for a figure that the run will not have."""
    if condition.name in ("cpu", "memory") and not server_known:
        raise ConditionError(f"{condition.text!r} needs --server-pid: {condition.name} is the server's")
    if mode == "idle" and (UNITS[condition.name] is LATENCY_UNITS or condition.name == "rate"):
        raise ConditionError(f"{condition.text!r}: idle sends no messages, and has no {condition.name}")


def figures_of(outcome: Outcome, latency: dict[str, Any] | None) -> dict[str, float | None]:
    """Return the figures that conditions are about, in their units; None for those that there are not."""
    summary = latency or {}
    figures: dict[str, float | None] = {
        name: summary.get(name) for name in ("p50", "p90", "p99", "p999", "max", "mean")
    }
    figures["rate"] = outcome.done / outcome.seconds if outcome.seconds else None
    figures["errors"] = float(outcome.errors.total()) + (outcome.failure is not None)
    figures["cpu"] = cpu_of_one(outcome)
    figures["memory"] = outcome.memory.get("end")
    figures["connections"] = outcome.left
    return figures


def cpu_of_one(outcome: Outcome) -> float | None:
    """Return the server's processor time for one message, in nanoseconds; None where it is not known."""
    if outcome.server is None or not outcome.done:
        return None
    # By rates: the server's window may be a little longer than the load's, or shorter.
    return outcome.server.share * 1e9 * outcome.seconds / outcome.done


def saturated(plan: Plan, outcome: Outcome) -> str | None:
    """
    Tell who had no time left: "load", "server", or nobody that is known of.

    A load that keeps its rate is not saturated however busy it is: it looks at its clock in what is left.
    """
    server = outcome.server.busiest_thread if outcome.server is not None else None
    if server is not None and server >= SERVER_FULL:
        return "server"
    if plan.mode == "idle" or (plan.rate is not None and not rate_missed(plan, outcome)):
        return None
    return "load" if any(use.share >= FULL for use in outcome.loads) else None


def rate_missed(plan: Plan, outcome: Outcome) -> bool:
    """Tell whether an open loop sent less than it was asked for, or was answered less."""
    if plan.due is None or not outcome.seconds:
        return False
    return outcome.done / outcome.seconds < KEPT * plan.due


def warnings(plan: Plan, outcome: Outcome, latency: dict[str, Any] | None) -> list[Warned]:
    """Return all that a reader of the figures has to know."""
    found = []
    server = outcome.server
    busiest = max((use.share for use in outcome.loads), default=0.0)
    if saturated(plan, outcome) == "load":
        known = (
            f", the server's {server.busiest_thread:.0%}"
            if server
            else "; --server-pid would tell the server's"
        )
        found.append(
            Warned(
                "load-saturated",
                f"a process of the load used {busiest:.0%} of its core{known}: "
                "the server may be faster than this. Take more --processes, or fewer --connections",
            )
        )
    if plan.due is not None and rate_missed(plan, outcome):
        missed = f"{outcome.done / outcome.seconds:,.0f} of {plan.due:,.0f} {plan.units} a second were done"
        if outcome.late:
            missed += f"; {outcome.late:,} that were due were not even sent, and are in no percentile"
        found.append(Warned("rate-missed", missed))
    elif outcome.late_grew:
        found.append(Warned("late", f"{outcome.late:,} messages were due and not sent, and they became more"))
    if outcome.unanswered:
        found.append(
            Warned(
                "unanswered",
                f"{outcome.unanswered:,} {plan.units} never came, though they were waited for, "
                "and are in no percentile",
            )
        )
    waited = max((use.wait_share for use in outcome.loads), default=0.0)
    if waited > WAITED:
        found.append(
            Warned(
                "load-waited",
                f"a process of the load waited for a core for {waited:.0%} of the time: "
                "latencies are too long. Give it a core of its own (--cpu)",
            )
        )
    if server is not None and server.wait_share > WAITED:
        found.append(
            Warned(
                "server-waited",
                f"the server waited for a core for {server.wait_share:.0%} of the time: "
                "other work runs there",
            )
        )
    if outcome.stolen_share > WAITED:
        found.append(
            Warned(
                "stolen", f"the host took {outcome.stolen_share:.0%} of a processor's time from this machine"
            )
        )
    if latency is not None and latency["count"] < FEW:
        found.append(
            Warned(
                "few-latencies",
                f"there are {latency['count']:,} latencies: p99.9 is just the longest of them",
            )
        )
    if outcome.uncompressed:
        found.append(
            Warned(
                "uncompressed",
                f"{outcome.uncompressed:,} answers came uncompressed, though compression was agreed upon",
            )
        )
    if outcome.stuck_closed:
        found.append(
            Warned(
                "stuck-closed",
                f"the server closed {outcome.stuck_closed:,} of {plan.stuck:,} connections that read nothing",
            )
        )
    if (
        not outcome.interrupted
        and outcome.failure is None
        and outcome.seconds < plan.duration - plan.interval
    ):
        found.append(Warned("short", f"{outcome.seconds:.1f} of {plan.duration:g} seconds were measured"))
    return found
