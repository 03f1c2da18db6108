"""
Processes and the machine from outside, through /proc: processor time, waiting, memory.

In: process ids. Out: counters, to be subtracted from later ones, and bytes.

proc(5); the first two fields of a thread's schedstat are nanoseconds on a processor, and nanoseconds ready to
run but waiting for one (the kernel's Documentation/scheduler/sched-stats.rst).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGESIZE")


class ObservingError(ValueError):
    """A process that cannot be observed; the text says which, and why."""


@dataclass
class Times:
    """
    Processor time so far, in nanoseconds.

    Attributes:
        threads: running, of each thread by its id.
        waiting: of all threads, for a processor to run on.
    """

    threads: dict[int, int] = field(default_factory=dict)
    waiting: int = 0

    def since(self, before: Times, seconds: float) -> Use:
        """Return what happened between two readings, `seconds` apart; threads that ended are left out."""
        grown = [ran - before.threads.get(thread, 0) for thread, ran in self.threads.items()]
        return Use(
            cpu_seconds=sum(grown) / 1e9,
            share=sum(grown) / 1e9 / seconds,
            busiest_thread=max(grown, default=0) / 1e9 / seconds,
            wait_share=max(self.waiting - before.waiting, 0) / 1e9 / seconds,
        )


@dataclass
class Use:
    """
    Processor time between two readings.

    Attributes:
        cpu_seconds: of all threads.
        share: of one core; several threads may sum up to more than 1.
        busiest_thread: its share of one core.
        wait_share: for how much of the time threads waited for a core; several may sum up to more than 1.
    """

    cpu_seconds: float
    share: float
    busiest_thread: float
    wait_share: float


class Processes:
    """
    Some processes, observed as one.

    Args:
        pids: their ids.
        tree: what they have started, and will, belongs to them.
    """

    def __init__(self, pids: tuple[int, ...], *, tree: bool = False) -> None:
        self.roots = pids
        self.tree = tree
        for pid in pids:
            if not (PROC / str(pid) / "task").is_dir():
                raise ObservingError(f"there is no process {pid}")
            try:
                (PROC / str(pid) / "smaps_rollup").read_text()
            except PermissionError:
                raise ObservingError(f"process {pid} may not be observed: it is another user's") from None
            except OSError:
                continue

    def pids(self) -> list[int]:
        """Return the ids of all that are there now."""
        if not self.tree:
            return list(self.roots)
        children: dict[int, list[int]] = {}
        for entry in PROC.iterdir():
            if entry.name.isdecimal() and (fields := stat_fields(entry / "stat")):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found = list(self.roots)
        for pid in found:
            found += [child for child in children.get(pid, ()) if child not in found]
        return found

    def times(self) -> Times:
        """Read the processor time of all threads; processes that have ended count nothing."""
        times = Times()
        for pid in self.pids():
            try:
                tasks = os.listdir(PROC / str(pid) / "task")
            except OSError:
                continue
            for task in tasks:
                ran, waited = thread_times(PROC / str(pid) / "task" / task)
                times.threads[int(task)] = ran
                times.waiting += waited
        return times

    def memory(self) -> int | None:
        """
        Return the resident anonymous memory in bytes: what n processes share counts 1/n for each.

        None where the kernel does not say, or where they have ended. It walks the page tables: not to
        be asked for while something is measured.
        """
        total = 0
        for pid in self.pids():
            try:
                lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            except OSError:
                return None
            values = [line.split()[1] for line in lines if line.startswith("Pss_Anon:")]
            if not values:
                return None
            total += int(values[0]) * 1024
        return total

    def resident(self) -> int | None:
        """Return the resident set in bytes, which is quick to read; None where they have ended."""
        total = 0
        for pid in self.pids():
            try:
                total += int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
            except (OSError, IndexError):
                return None
        return total


def thread_times(task: Path) -> tuple[int, int]:
    """Return nanoseconds of running and waiting of a thread; without schedstat the first from clock ticks."""
    try:
        fields = (task / "schedstat").read_text().split()
        return int(fields[0]), int(fields[1])
    except (OSError, IndexError):
        ticks = stat_fields(task / "stat")
        return (int(ticks[11]) + int(ticks[12])) * 10**9 // TICK if ticks else 0, 0


def stat_fields(path: Path) -> list[str]:
    """Return the fields of a stat file from the third on; none where the process has ended."""
    try:
        # The second is a name in parentheses, which may have any character.
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def stolen() -> dict[str, int]:
    """Return for how many nanoseconds so far the host ran something else, by processor."""
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines)
    return {row[0]: int(row[8]) * 10**9 // TICK for row in rows if row and row[0] in names}


def stolen_share(before: dict[str, int], after: dict[str, int], seconds: float) -> float:
    """Return the share of time that the host took from the processor it took most from."""
    return max((after[name] - before.get(name, 0) for name in after), default=0) / 1e9 / seconds
