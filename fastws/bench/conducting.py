"""
The processes of a load together: phases, samples, and the server beside them.

In: a `Plan` and a `Target`. Out: an `Outcome`.

    prime     idle, with a server to observe: a few connections come and go, before its memory is read
    open      every process opens its connections; over when all have
    warm-up   all begin to send at one moment
    window    what is measured; begins and ends at one moment in all
    drain     nothing new is sent; what was under way still gives a latency
    close

The parent only waits and adds up: what it draws is in other hands than what is measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NamedTuple

from fastws.bench.figures import Latencies, Point, Series, Taken, done_in, is_growing
from fastws.bench.observing import Processes, Times, Use, stolen, stolen_share
from fastws.bench.plan import Plan, PlanError
from fastws.bench.target import Target

LEAD_SECONDS = 0.25  # between saying when to begin and that moment: over two steps of the processes
TICK_SECONDS = 0.25
START_SECONDS = 60.0
END_SECONDS = 10.0  # over the drain, for the last samples
QUIET_SECONDS = {
    False: 0.1,
    True: 0.5,
}  # by whether the loop is open: after what silence nothing more is waited for
SETTLING_SECONDS = 0.5  # before memory is read


class Failed(Exception):
    """The load could not go on; the text says why."""


class Interrupted(Exception):
    """Ctrl-C, where it does no harm."""


class Watcher:
    """Is told how a load goes; this one ignores it."""

    def opening(self, connections: int) -> None:
        """So many connections are open."""

    def measuring(self, begin: float, end: float) -> None:
        """The window is from `begin` to `end`, in `time.monotonic()`; it may be in the future."""

    def point(self, point: Point) -> None:
        """An interval of the window is over."""

    def draining(self) -> None:
        """The window is over."""

    def tick(self) -> None:
        """A part of a second has passed."""


@dataclass
class Outcome:
    """
    What a load did.

    Attributes:
        seconds: length of the window; 0 when it was not reached.
        opened: connections that were open when the window was about to begin.
        left: connections that were open when it ended.
        late: messages that were due in it, and were not sent.
        late_grew: they became more and more.
        unanswered: messages or deliveries that were waited for at the end, and did not come.
        uncompressed: answers that came uncompressed although compression was agreed upon.
        stuck_closed: connections that read nothing, and that the server closed.
        latencies: of what was answered in the window, and of what was sent in it and answered after it.
        handshake_latencies: of all connections, from the first on.
        errors: of all phases.
        loads: each process's processor time in the window.
        server: the server's; None when its process is not known.
        memory: of the server, in bytes: "before" the connections, at "start" and "end" of the window.
        resident: the same, of its resident set.
        stolen_share: of the window, taken by the host from one processor.
        failure: why the load could not go on.
    """

    seconds: float = 0.0
    opened: int = 0
    left: int = 0
    messages: int = 0
    handshakes: int = 0
    done: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    late: int = 0
    late_grew: bool = False
    unanswered: int = 0
    uncompressed: int = 0
    stuck_closed: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    handshake_latencies: Latencies = field(default_factory=Latencies)
    errors: Counter[str] = field(default_factory=Counter)
    series: list[Point] = field(default_factory=list)
    loads: list[Use] = field(default_factory=list)
    server: Use | None = None
    memory: dict[str, int | None] = field(default_factory=dict)
    resident: dict[str, int | None] = field(default_factory=dict)
    stolen_share: float = 0.0
    failure: str | None = None
    interrupted: bool = False


class Readings(NamedTuple):
    """Everybody's processor time at one moment: the load's, the server's, what the host took."""

    at: float
    loads: list[Times]
    server: Times | None
    stolen: dict[str, int]


class Conductor:
    """
    Carries out one plan.

    Args:
        server: the server's processes, if they are known.
        watcher: is told how it goes.
        niceness: of this process from when the others run, so that it takes no core from them.
    """

    def __init__(
        self,
        plan: Plan,
        target: Target,
        server: Processes | None = None,
        watcher: Watcher | None = None,
        *,
        niceness: int = 0,
    ) -> None:
        self.plan = plan
        self.target = target
        self.server = server
        self.watcher = watcher or Watcher()
        self.niceness = niceness
        self.outcome = Outcome()
        self.series = Series(plan.mode, plan.processes, plan.interval, plan.duration)
        self.workers: dict[Connection[Any, Any], subprocess.Popen[bytes]] = {}
        self.open_now: dict[Connection[Any, Any], int] = {}
        self.elapsed: dict[Connection[Any, Any], float] = {}
        self.asked_to_stop = False
        self.measuring = False
        self.before: Readings | None = None
        self.last: Readings | None = None

    def run(self) -> Outcome:
        """
        Run the load to its end, or until Ctrl-C; what happens to it is in the outcome.

        Raises: PlanError for what the load refuses to begin with.
        """
        with self.deaf():
            try:
                self.start()
                self.open()
                self.measure()
            except Failed as error:
                self.outcome.failure = str(error)
                self.end_window()
            except Interrupted:
                self.outcome.interrupted = True
                self.interrupt()
            finally:
                self.end()
        self.series.finish()
        self.outcome.series = self.series.points
        if self.series.points:
            self.outcome.left = self.series.points[-1].connections
            self.outcome.late = self.series.late[-1]
            self.outcome.late_grew = is_growing(self.series.late)
        self.outcome.seconds = max(self.elapsed.values(), default=0.0)
        return self.outcome

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """Keep Ctrl-C for a moment when nothing is half done; the second one is not waited for."""

        def note(_number: int, _frame: object) -> None:
            if self.asked_to_stop:
                raise KeyboardInterrupt
            self.asked_to_stop = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # ---- phases

    def start(self) -> None:
        """Start the processes."""
        for number, share in enumerate(self.plan.shares(self.target)):
            ours, theirs = Pipe()
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", "fastws.bench.worker", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    # It must find what this process has found.
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    # Ctrl-C at a terminal is for this process alone.
                    start_new_session=True,
                )
            self.workers[ours] = process
            self.open_now[ours] = 0
            self.elapsed[ours] = 0.0
            self.send(ours, (share, self.plan.core(number)))
        os.nice(self.niceness)
        self.expect("ready", START_SECONDS)

    def open(self) -> None:
        """Open all connections."""
        if self.server is not None:
            if self.plan.mode == "idle":
                first = next(iter(self.workers))
                self.send(first, "prime")
                self.expect("primed", START_SECONDS, only=first)
                time.sleep(SETTLING_SECONDS)
            self.remember_memory("before")
        if self.plan.mode != "storm":
            self.send_all("open")
            # A process gives up by itself where nothing moves.
            self.expect("opened", None)
            self.outcome.opened = sum(self.open_now.values())
            if not self.outcome.opened:
                errors = ", ".join(f"{text} ({n})" for text, n in self.outcome.errors.most_common(3))
                raise Failed(
                    f"no connection to {self.target.describe()} could be opened: {errors or 'timeout'}"
                )
        if self.server is not None:
            if self.plan.mode == "idle":
                time.sleep(SETTLING_SECONDS)
            self.remember_memory("start")

    def measure(self) -> None:
        """Run warm-up, window and drain."""
        at = time.monotonic() + LEAD_SECONDS
        begin = at + self.plan.warmup
        end = begin + self.plan.duration
        drain = QUIET_SECONDS[self.plan.rate is not None]
        self.send_all(("measure", at, self.plan.warmup, self.plan.duration, self.plan.interval, drain))
        self.measuring = True
        self.watcher.measuring(begin, end)
        self.expect("warm", self.plan.warmup + START_SECONDS)
        self.begin_window()
        limit = self.plan.duration + END_SECONDS + START_SECONDS
        self.expect("drained", limit, passing=end, passed=self.end_window)
        if self.server is not None:
            self.remember_memory("end")

    def interrupt(self) -> None:
        """Take what there is, and no more."""
        if not self.measuring:
            return
        try:
            self.end_window()
            self.send_all("stop")
            self.expect("drained", END_SECONDS, interruptible=False)
        except Failed as error:
            self.outcome.failure = str(error)

    def end(self) -> None:
        """Close the connections, and end the processes."""
        for connection in self.workers:
            with contextlib.suppress(OSError):
                connection.send("close")
        limit = time.monotonic() + END_SECONDS
        try:
            for process in self.workers.values():
                process.wait(max(limit - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            pass
        finally:
            for connection, process in self.workers.items():
                connection.close()
                if process.poll() is None:
                    process.kill()
                process.wait()

    # ---- the window, from outside

    def times(self) -> Readings:
        """Read everybody's processor time."""
        running = [process.pid for process in self.workers.values() if process.poll() is None]
        return Readings(
            time.monotonic(),
            [Processes((pid,)).times() for pid in running],
            self.server.times() if self.server is not None else None,
            stolen(),
        )

    def begin_window(self) -> None:
        """Note where everybody's processor time began."""
        self.before = self.last = self.times()

    def end_window(self) -> None:
        """Work out everybody's processor time, once."""
        if self.before is None or self.outcome.loads:
            return
        before, now = self.before, self.times()
        seconds = now.at - before.at
        if len(now.loads) == len(before.loads):
            self.outcome.loads = [
                one.since(first, seconds) for first, one in zip(before.loads, now.loads, strict=True)
            ]
        if now.server is not None and before.server is not None:
            self.outcome.server = now.server.since(before.server, seconds)
        self.outcome.stolen_share = stolen_share(before.stolen, now.stolen, seconds)
        self.watcher.draining()

    def remember_memory(self, when: str) -> None:
        """Read the server's memory."""
        assert self.server is not None
        self.outcome.memory[when] = self.server.memory()
        self.outcome.resident[when] = self.server.resident()

    def observe(self, point: Point) -> None:
        """Add to a point what is known of the server."""
        if self.server is not None and self.last is not None and self.last.server is not None:
            seconds = time.monotonic() - self.last.at
            # Two intervals that arrive together have one figure.
            if seconds > self.plan.interval / 2:
                times = self.server.times()
                point.server_cpu = times.since(self.last.server, seconds).share
                self.last = self.last._replace(at=self.last.at + seconds, server=times)
            point.server_rss = self.server.resident()
        self.watcher.point(point)

    # ---- talking to the processes

    def send(self, to: Connection[Any, Any], command: Any) -> None:
        """Raises: Failed for a process that has ended."""
        try:
            to.send(command)
        except OSError:
            raise self.ended(to) from None

    def send_all(self, command: Any) -> None:
        """Raises: Failed."""
        for connection in self.workers:
            self.send(connection, command)

    def ended(self, which: Connection[Any, Any]) -> Failed:
        """Return why there is nothing more from a process."""
        try:
            status = self.workers[which].wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return Failed("a process of the load hung up")
        return Failed(f"a process of the load ended with status {status}")

    def expect(
        self,
        answer: str,
        seconds: float | None,
        *,
        only: Connection[Any, Any] | None = None,
        passing: float = 0.0,
        passed: Callable[[], None] | None = None,
        interruptible: bool = True,
    ) -> None:
        """
        Take in what processes say until all have given this answer.

        Args:
            seconds: for that; None: however long it takes.
            only: this process, not all.
            passing, passed: a moment in `time.monotonic()`, and what to call then, or when all have given it.
            interruptible: Ctrl-C ends it.

        Raises: Failed, Interrupted.
        """
        missing = {only} if only is not None else set(self.workers)
        limit = None if seconds is None else time.monotonic() + seconds
        while missing:
            now = time.monotonic()
            if self.asked_to_stop and interruptible:
                raise Interrupted
            if limit is not None and now > limit:
                raise Failed(f"a process of the load said nothing for {seconds:g} seconds")
            if passed is not None and now >= passing:
                passed()
                passed = None
            timeout = TICK_SECONDS if passed is None else min(passing - now, TICK_SECONDS)
            # Who has given the answer says nothing more until it is told to.
            for connection in wait(missing, max(timeout, 0)):
                assert isinstance(connection, Connection)
                if self.take_in(connection) == answer:
                    missing.discard(connection)
            self.watcher.tick()
        if passed is not None:
            passed()

    def take_in(self, connection: Connection[Any, Any]) -> str:
        """
        Take in one thing that a process says; return which it was.

        Raises: Failed, PlanError.
        """
        try:
            answer, *rest = connection.recv()
        except (EOFError, OSError):
            raise self.ended(connection) from None
        if answer == "refused":
            raise PlanError(rest[0])
        if answer == "failed":
            raise Failed(rest[0])
        if not rest:
            return str(answer)
        taken: Taken = rest[-1]
        outcome = self.outcome
        outcome.errors.update(taken.errors)
        outcome.stuck_closed = max(outcome.stuck_closed, taken.stuck_closed)
        outcome.handshake_latencies.add(taken.handshake_latencies)
        self.open_now[connection] = taken.connections
        if answer in ("opening", "opened"):
            self.watcher.opening(sum(self.open_now.values()))
        elif answer == "sample":
            self.elapsed[connection] += taken.seconds
            outcome.messages += taken.messages
            outcome.handshakes += taken.handshakes
            outcome.done += done_in(self.plan.mode, taken)
            outcome.sent_bytes += taken.sent_bytes
            outcome.received_bytes += taken.received_bytes
            outcome.uncompressed += taken.uncompressed
            outcome.latencies.add(taken.latencies)
            if point := self.series.add(rest[0], taken):
                self.observe(point)
        elif answer in ("draining", "drained") and self.plan.mode != "storm":
            outcome.latencies.add(taken.latencies)
            if answer == "drained" and self.plan.expected != "any":
                outcome.unanswered += taken.unanswered
        return str(answer)
