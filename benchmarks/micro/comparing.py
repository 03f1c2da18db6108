"""Whether timings changed: two runs of the same benchmarks, and more where they differ.

What disturbs a benchmark makes it slower, hardly ever faster, and may last for all of its rounds. So the
shortest round of several passes counts, on both sides: a baseline is saved from as many passes as
anything that seems to have changed is given. (On a machine with far more work than cores, of 149
benchmarks that nobody had changed, medians of four passes differed by over a tenth in 60, shortest rounds
of six in 2.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

LIMIT = 0.10
PASSES = 6  # over everything for a baseline; over what differs, at most


@dataclasses.dataclass(frozen=True)
class Timing:
    """One benchmark of a run; seconds."""

    median: float
    iqr: float
    min: float
    rounds: int


Run = dict[str, Timing]  # by the benchmark's name


@dataclasses.dataclass(frozen=True)
class Change:
    name: str
    before: Timing
    now: Timing

    @property
    def share(self) -> float:
        """By how much the shortest round is longer: 0.11 is 11 %."""
        return self.now.min / self.before.min - 1


@dataclasses.dataclass(frozen=True)
class Comparison:
    """
    Attributes:
        slower, faster: what changed by more than the limit, most first.
        missing: names of the baseline that were not timed.
        new: names that are not in the baseline.
    """

    slower: list[Change]
    faster: list[Change]
    missing: list[str]
    new: list[str]


def best(runs: Iterable[Run]) -> Run:
    """Return each benchmark's timing with the shortest round."""
    found: Run = {}
    for run in runs:
        for name, timing in run.items():
            if name not in found or timing.min < found[name].min:
                found[name] = timing
    return found


def changes(baseline: Run, now: Run, limit: float = LIMIT) -> list[Change]:
    """Return what is in both and differs by more than `limit`, slower ones first."""
    both = [Change(name, timing, now[name]) for name, timing in baseline.items() if name in now]
    return sorted((one for one in both if abs(one.share) > limit), key=lambda one: -one.share)


def compare(baseline: Run, repeat: Callable[[list[str]], Run], limit: float = LIMIT) -> Comparison:
    """
    Time everything, and what differs again up to `PASSES` times in all.

    Args:
        repeat: times the benchmarks of these names, all of them for [], and returns what it timed.
        limit: a share of what the baseline has.
    """
    now = repeat([])
    for _ in range(PASSES - 1):
        suspects = [change.name for change in changes(baseline, now, limit)]
        if not suspects:
            break
        now = best([now, repeat(suspects)])
    found = changes(baseline, now, limit)
    return Comparison(
        slower=[change for change in found if change.share > 0],
        faster=[change for change in reversed(found) if change.share < 0],
        missing=sorted(baseline.keys() - now.keys()),
        new=sorted(now.keys() - baseline.keys()),
    )
