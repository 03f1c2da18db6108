"""
Samples of several processes into totals, histograms and time series.

In: what `Load.take` gave, process by process, interval by interval. Out: rates, percentiles, HdrHistograms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hdrh.histogram import HdrHistogram

SIGNIFICANT_DIGITS = 3
HIGHEST_NS = 3600 * 10**9
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


class Taken(NamedTuple):
    """What one process did in one interval: `fastws._load.Sample`, to be sent between processes."""

    seconds: float
    messages: int
    handshakes: int
    sent_bytes: int
    received_bytes: int
    connections: int
    cpu_seconds: float
    late: int
    uncompressed: int
    stuck_closed: int
    latencies: list[tuple[int, int]]
    handshake_latencies: list[tuple[int, int]]
    errors: dict[str, int]
    unanswered: int = 0

    @classmethod
    def of(cls, sample: Any) -> Taken:
        """Copy a `Sample`."""
        return cls(*(getattr(sample, name) for name in cls._fields))


class Latencies:
    """How often each latency was seen, in nanoseconds."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Add (latency, count) pairs."""
        counts = self.counts
        for value, count in pairs:
            counts[value] += count

    def histogram(self) -> HdrHistogram:
        """Return all as a histogram of three significant digits; what is over an hour counts as that."""
        histogram = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
        for value, count in self.counts.items():
            histogram.record_value(min(value, HIGHEST_NS), count)
        return histogram

    def summary(self) -> dict[str, Any] | None:
        """Return count, min, mean, percentiles, max and the histogram, encoded; None when there are none."""
        if not self.counts:
            return None
        histogram = self.histogram()
        values = histogram.get_percentile_to_value_dict(list(PERCENTILES.values()))
        total = sum(self.counts.values())
        highest = max(self.counts)
        return {
            "count": total,
            "min": min(self.counts),
            "mean": round(sum(value * count for value, count in self.counts.items()) / total),
            # A bucket's upper end may be over what was seen.
            **{name: min(int(values[percent]), highest) for name, percent in PERCENTILES.items()},
            "max": highest,
            "histogram": histogram.encode().decode(),
        }


def percentile(pairs: list[tuple[int, int]], share: float) -> int | None:
    """Return the least value that `share` (0 to 1) of ascending (value, count) pairs do not exceed."""
    need = share * sum(count for _, count in pairs)
    seen = 0
    for value, count in pairs:
        seen += count
        if seen >= need:
            return value
    return None


def curve(encoded: str) -> list[tuple[float, int]]:
    """
    Return a histogram's latencies by percentile, as (1 / (1 - share), ns), up to what its count can tell.

    Args:
        encoded: as in `Latencies.summary`.
    """
    histogram = HdrHistogram.decode(encoded)
    points: list[tuple[float, int]] = []
    seen, total = 0, histogram.get_total_count()
    for item in histogram.get_recorded_iterator():
        value = histogram.get_highest_equivalent_value(item.value_iterated_to)
        # Where a latency begins on the axis: all before it are shorter.
        points.append((total / (total - seen), value))
        seen += item.count_at_value_iterated_to
        points.append((total / max(total - seen, 1), value))
    return points


@dataclass
class Bin:
    """What all processes did in one interval of the window."""

    seconds: float = 0.0
    done: int = 0
    connections: int = 0
    errors: int = 0
    late: int = 0
    latencies: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Point:
    """One interval of the window, `at` where it ends; latencies in nanoseconds, None for none."""

    at: float
    rate: float
    p50: int | None
    p99: int | None
    connections: int
    errors: int
    server_cpu: float | None = None
    server_rss: int | None = None


class Series:
    """
    The window, interval by interval.

    An interval is complete when all processes have sent theirs; then it becomes a point.
    """

    def __init__(self, mode: str, processes: int, interval: float, duration: float) -> None:
        self.mode = mode
        self.processes = processes
        self.interval = interval
        self.duration = duration
        self.points: list[Point] = []
        self.late: list[int] = []
        self._bins: dict[int, Bin] = {}
        self._missing: dict[int, int] = {}

    def add(self, index: int, taken: Taken) -> Point | None:
        """Add one process's interval; return the point that it completes, if it does."""
        one = self._bins.setdefault(index, Bin())
        one.seconds = max(one.seconds, taken.seconds)
        one.done += done_in(self.mode, taken)
        one.connections += taken.connections
        one.errors += sum(taken.errors.values())
        one.late += taken.late
        one.latencies += taken.latencies
        self._missing[index] = self._missing.get(index, self.processes) - 1
        if self._missing[index]:
            return None
        return self._complete(index)

    def finish(self) -> None:
        """Make points of what came of some processes only: a run was interrupted."""
        for index in sorted(self._bins):
            self._complete(index)

    def _complete(self, index: int) -> Point:
        one = self._bins.pop(index)
        pairs = sorted(one.latencies)
        point = Point(
            at=round(min((index + 1) * self.interval, self.duration), 3),
            rate=one.done / one.seconds if one.seconds else 0.0,
            p50=percentile(pairs, 0.5),
            p99=percentile(pairs, 0.99),
            connections=one.connections,
            errors=one.errors,
        )
        self.points.append(point)
        self.late.append(one.late)
        return point


def done_in(mode: str, taken: Taken) -> int:
    """Return how many of the mode's units were done: answers, deliveries, handshakes; idle does none."""
    return {"storm": taken.handshakes, "idle": 0}.get(mode, taken.messages)


def is_growing(late: list[int]) -> bool:
    """Tell whether what is due and unsent has become more from each third of the window to the next."""
    third = len(late) // 3
    if not third:
        return False
    parts = [sum(late[at : at + third]) for at in (0, third, 2 * third)]
    return parts[0] < parts[1] < parts[2]
