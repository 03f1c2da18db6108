"""
The supervisor: forks workers, keeps their sockets, replaces those that end, and ends with them.

In: signals, the ends of processes, what workers say. Out: workers, orders to them, words for the service
manager.

It serves nobody itself, runs no event loop, no thread and no code of the user's, so that a fork of it is safe
at any moment and cheap. It holds every listening socket for as long as it lives: connections that wait in one
for a worker that dies wait for the next one (docs/decisions/0004-workers-are-forked.md).
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastws.crew import Slot, Worker
from fastws.forking import describe_end, fork
from fastws.systemd import Notifier
from fastws.workers import Post

__all__ = ["Supervisor", "WorkersFailed"]

# How many workers in a row, for one slot, may end before they are ready; the last such end is everybody's.
FAILURES = 5
# Seconds until the first and the longest repeated attempt; the first replacement comes at once.
FIRST_DELAY = 0.5
LONGEST_DELAY = 4.0
# And for one that was ready: clients wait at its sockets.
LONGEST_ABSENCE = 0.9
# A worker that lived so long was no part of a series.
LONG_LIFE = 10.0
# So many of a slot may drain at once; when one more stops by itself, the first of them drops its connections.
MOST_LEAVING = 4
# Seconds that a worker may take to get ready, at least; and over its time to end, or to die of SIGABRT.
START_TIMEOUT = 60.0
GRACE = 2.0
# Seconds over the time to wake up from which on it was this process that stood still.
LATE = 1.0

STATUS_PERIOD = 5.0


class WorkersFailed(RuntimeError):
    """Workers could not start, died one after another, or did not end when they had to."""


class Supervisor:
    """
    Runs workers until it is told to stop.

    Args:
        work: what a worker does, with its `Post`; it returns when it was told to stop.
        groups: the listening sockets of each worker; several may have the same ones.
        drain_timeout: seconds that a worker may take to end; None: any time.
        stall_timeout: seconds without a sign of life after which a worker is killed, and at least 60
            before the first; None: never.
        started: called once, when all workers are ready.
        watch: for `fork`: says "changed" and a path, whenever workers are to be replaced; None: nothing does.
    """

    def __init__(
        self,
        work: Callable[[Post], None],
        groups: Sequence[Sequence[socket.socket]],
        *,
        drain_timeout: float | None,
        stall_timeout: float | None,
        notifier: Notifier,
        started: Callable[[], object] | None = None,
        watch: Callable[[socket.socket], object] | None = None,
    ) -> None:
        self.slots = [Slot(i, list(sockets)) for i, sockets in enumerate(groups)]
        self.logger = logging.getLogger("fastws.workers")
        self._work = work
        self._drain_timeout = drain_timeout
        self._stall_timeout = stall_timeout
        self._notifier = notifier
        self._started = started
        self._watch = watch
        self._workers: dict[int, Worker] = {}  # by process id
        self._replacing: list[Slot] = []  # whose turn comes, next first
        self._stops = 0
        self._announced = False
        self._wanted: str | None = None  # a replacement, why, once all have begun
        self._reloading = False
        self._failure: str | None = None
        self._next_status = self._next_alive = 0.0
        self._selector: selectors.BaseSelector
        self._signals: tuple[socket.socket, socket.socket]
        self._watcher: tuple[int, socket.socket] | None = None

    # ---------------------------------------------------------------- life

    def run(self) -> None:
        """
        Run until SIGTERM or SIGINT, and all workers have ended. SIGHUP replaces them one by one; SIGUSR1 logs
        counts.

        Raises: WorkersFailed; RuntimeError outside of the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("workers are supervised from the main thread: signals come there")
        self._selector = selectors.DefaultSelector()
        self._signals = socket.socketpair()
        for one in self._signals:
            one.setblocking(False)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)
        before: dict[signal.Signals, Any] = {}
        # Before the handlers, which do nothing: a signal is taken from here, or lost.
        wakeup = signal.set_wakeup_fd(self._signals[1].fileno(), warn_on_full_buffer=False)
        self._selector.register(self._signals[0], selectors.EVENT_READ, self._signalled)
        try:
            for number in numbers:
                before[number] = signal.signal(number, lambda *_: None)
            self._live()
        finally:
            for worker in self._workers.values():
                worker.kill()
            for pid in list(self._workers):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
            self._end_watching()
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            signal.set_wakeup_fd(wakeup)
            self._selector.close()
            for one in self._signals:
                one.close()
        if self._failure is not None:
            raise WorkersFailed(self._failure)

    def _live(self) -> None:
        for slot in self.slots:
            slot.due = 0.0
        then = time.monotonic()
        while self._workers or not self._stops:
            now = time.monotonic()
            self._excuse(now - then, now - then)
            self._begin_due(now)
            self._kill_overdue(now)
            self._tell_manager(now)
            until = self._next_deadline(now)
            ready = self._selector.select(max(0.0, until - now))
            then = time.monotonic()
            self._excuse(then - until, then - now)
            for key, _ in ready:
                key.data()

    def _excuse(self, late: float, passed: float) -> None:
        """If this process stood still, and so perhaps its workers: let them have the time that was left."""
        if late > LATE:
            for worker in self._workers.values():
                if worker.deadline is not None:
                    worker.deadline += passed

    def _next_deadline(self, now: float) -> float:
        times = [now + STATUS_PERIOD]
        times += [slot.due for slot in self.slots if slot.due is not None]
        times += [worker.deadline for worker in self._workers.values() if worker.deadline is not None]
        if self._notifier.interval is not None:
            times.append(self._next_alive)
        return min(times)

    def _signalled(self) -> None:
        try:
            numbers = self._signals[0].recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        # The ends first: what a stop or a replacement waits for may be among them.
        if signal.SIGCHLD in numbers:
            self._reap()
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
            elif number == signal.SIGHUP:
                self.replace_all("told to")
            elif number == signal.SIGUSR1:
                self._log_counts()

    # ---------------------------------------------------------------- beginnings

    def _begin_due(self, now: float) -> None:
        for slot in self.slots:
            if slot.due is not None and now >= slot.due:
                slot.due = None
                if not self._stops:
                    self._begin(slot)
        self._replace_next()

    def _begin(self, slot: Slot) -> None:
        not_its: list[Any] = [self._selector, *self._signals]
        not_its += [worker.line for worker in self._workers.values()]
        # Others of the group; a socket that it shares with them is closed in the end of those only.
        not_its += [one for other in self.slots for one in other.sockets if one not in slot.sockets]
        if self._watcher is not None:
            not_its.append(self._watcher[1])
        post = functools.partial(Post, slot.number, slot.sockets)
        try:
            pid, line = fork(lambda line: self._work(post(line)), not_its)
        except OSError as error:
            self._ended_early(slot, f"cannot be forked: {error}")
            return
        now, stall = time.monotonic(), self._stall_timeout
        worker = Worker(slot, pid, line, now, None if stall is None else now + max(stall, START_TIMEOUT))
        slot.coming = worker
        self._workers[pid] = worker
        self._selector.register(line, selectors.EVENT_READ, functools.partial(self._hear, worker))
        self.logger.debug("worker %d: process %d begins", slot.number, pid)

    def _hear(self, worker: Worker) -> None:
        for word, rest in worker.hear():
            if word == "ready":
                self._is_ready(worker)
            elif word == "leaving":
                self._leaves(worker)
            elif word == "alive":
                worker.alive(rest, time.monotonic(), self._stall_timeout)
            elif word == "failed":
                worker.failure = str(json.loads(rest))
        if worker.silent:
            worker.forget_line(self._selector)  # its end is reported by SIGCHLD

    def _is_ready(self, worker: Worker) -> None:
        slot = worker.slot
        stall = self._stall_timeout
        worker.deadline = None if stall is None else time.monotonic() + stall
        worker.is_ready = True
        slot.failures = 0
        if self._stops:
            # It was told to end while it started, and does so as one that serves.
            self._expect_end(worker, self._drain_timeout)
            return
        if slot.coming is not worker:
            return
        slot.coming, old, slot.current = None, slot.current, worker
        if old is not None:
            self._send_away(old, "drain")
            slot.leaving.append(old)
        self.logger.info("worker %d: process %d is ready", slot.number, worker.pid)
        if not self._announced and all(one.current is not None for one in self.slots):
            self._announced = True
            if self._watch is not None:
                self._begin_watching()
            if self._started is not None:
                self._started()
            self._notifier.ready()
            if self._wanted is not None:
                self.replace_all(self._wanted)

    # ---------------------------------------------------------------- replacing

    def replace_all(self, why: str) -> None:
        """Replace the workers one by one: a new one gets ready, the old one drains, then the next."""
        if not self._announced:
            self._wanted = why
            return
        if self._stops:
            return
        self.logger.info("replacing the workers: %s", why)
        if not self._reloading:
            self._reloading = True
            self._notifier.reloading()
        self._replacing = list(self.slots)

    def _replace_next(self) -> None:
        if not self._reloading or self._stops or any(slot.is_changing() for slot in self.slots):
            return
        if self._replacing:
            self._begin(self._replacing.pop(0))
        else:
            self._reloading = False
            self.logger.info("the workers are replaced")
            self._notifier.ready()

    # ---------------------------------------------------------------- ends

    def _leaves(self, worker: Worker) -> None:
        """Replace a worker at once that stops, though not told to: it accepts nothing while it drains."""
        slot = worker.slot
        if worker.is_leaving or slot.current is not worker:
            return  # it was told to meanwhile
        self.logger.info("worker %d: process %d stops", slot.number, worker.pid)
        self._expect_end(worker, self._drain_timeout)
        slot.current = None
        slot.leaving.append(worker)
        if len(slot.leaving) > MOST_LEAVING:
            self._send_away(slot.leaving[-MOST_LEAVING - 1], "abort")
        self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        """Let another one take the place, soon; that does not wait where it has only just been taken."""
        slot, now = worker.slot, time.monotonic()
        if slot.coming is None:
            slot.quick = 0 if now - worker.began >= LONG_LIFE else slot.quick + 1
            slot.due = now + min(delay(slot.quick), LONGEST_ABSENCE)

    def _reap(self) -> None:
        for pid in list(self._workers):
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                found, status = pid, 0
            if found:
                self._ended(self._workers.pop(pid), os.waitstatus_to_exitcode(status))
        if self._watcher is not None and os.waitpid(self._watcher[0], os.WNOHANG)[0]:
            if not self._stops:
                self.logger.error("the watcher for changes has ended")
            self._end_watching(False)

    def _ended(self, worker: Worker, code: int) -> None:
        slot = worker.slot
        how = describe_end(code)
        self._hear(worker)  # its last words
        worker.close(self._selector)
        lived = time.monotonic() - worker.began
        if slot.coming is worker:
            slot.coming = None
            if not self._stops:
                self._ended_early(slot, worker.failure or how, lived, code >= 0)
                return
        expected = slot.current is not worker or bool(self._stops)
        # SIGTERM is what one that is not ready yet is told to end with.
        level = logging.DEBUG if expected and code in (0, -signal.SIGTERM) else logging.ERROR
        self.logger.log(level, "worker %d: process %d %s", slot.number, worker.pid, how)
        if worker in slot.leaving:
            slot.leaving.remove(worker)
        elif slot.current is worker:
            slot.current = None
            if not expected:
                self._replace(worker)

    def _ended_early(self, slot: Slot, why: str, lived: float = 0.0, by_itself: bool = False) -> None:
        self.logger.error("worker %d could not start: %s", slot.number, why)
        if self._reloading and slot.current is not None:
            # The one that serves goes on; and those that follow would do no better.
            self._reloading = False
            self._replacing.clear()
            self.logger.error("the workers stay as they were")
            self._notifier.ready()
            return
        slot.failures = 1 if lived >= LONG_LIFE else slot.failures + 1
        # What goes wrong in the very first start will go wrong in the second.
        at_once = by_itself and not self._announced
        if at_once or slot.failures >= FAILURES:
            often = "" if at_once else f" {slot.failures} times in a row"
            self._failure = f"worker {slot.number} could not start{often}: {why}"
            self.logger.critical("%s: giving up", self._failure)
            self._stop()
        else:
            slot.due = time.monotonic() + delay(slot.failures)

    def _stop(self) -> None:
        self._stops += 1
        if self._stops == 1:
            self._notifier.stopping()
            self.logger.info("stopping %d workers", len(self._workers))
        for slot in self.slots:
            slot.due = None
        self._replacing.clear()
        for worker in self._workers.values():
            if worker.is_ready or self._stops > 1:
                self._send_away(worker, "stop" if self._stops == 1 else "abort")
            else:
                worker.signal(signal.SIGTERM)  # nobody is connected yet
                worker.deadline = time.monotonic() + GRACE

    def _send_away(self, worker: Worker, order: str) -> None:
        worker.tell(order)
        self._expect_end(worker, 0.0 if order == "abort" else self._drain_timeout)

    @staticmethod
    def _expect_end(worker: Worker, limit: float | None) -> None:
        worker.is_leaving = True
        worker.deadline = None if limit is None else time.monotonic() + limit + GRACE

    def _kill_overdue(self, now: float) -> None:
        for worker in self._workers.values():
            if worker.deadline is None or now < worker.deadline:
                continue
            worker.deadline = now + GRACE
            if worker.is_leaving and not worker.was_killed and self._stops == 1:
                self._failure = self._failure or f"worker {worker.slot.number} did not end in time"
            if worker.is_leaving or not worker.is_ready or worker.was_killed:
                worker.kill()
            else:
                # With faulthandler on it says where it stands; if it cannot even do that it is killed.
                self.logger.error("worker %d: process %d is stuck", worker.slot.number, worker.pid)
                worker.was_killed = True
                worker.signal(signal.SIGABRT)

    # ---------------------------------------------------------------- words

    def _counts(self) -> str:
        workers = [slot.current for slot in self.slots]
        return ", ".join("down" if one is None else str(one.open_count) for one in workers)

    def _log_counts(self) -> None:
        self.logger.info("connections of the workers: %s", self._counts())

    def _tell_manager(self, now: float) -> None:
        interval = self._notifier.interval
        if interval is not None and now >= self._next_alive:
            self._next_alive = now + interval / 2
            self._notifier.alive()
        if self._announced and now >= self._next_status:
            self._next_status = now + STATUS_PERIOD
            self._notifier.status(f"{len(self.slots)} workers, connections: {self._counts()}")

    # ---------------------------------------------------------------- changes of code

    def _begin_watching(self) -> None:
        assert self._watch is not None
        not_its: list[Any] = [self._selector, *self._signals]
        not_its += [worker.line for worker in self._workers.values()]
        not_its += [one for slot in self.slots for one in slot.sockets]
        self._watcher = pid, line = fork(self._watch, not_its)
        self._selector.register(line, selectors.EVENT_READ, self._changed)
        self.logger.debug("process %d watches for changes", pid)

    def _changed(self) -> None:
        if self._watcher is None:
            return  # ended since its line was found readable
        try:
            data = self._watcher[1].recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        if data:
            self.replace_all(data.decode(errors="replace").strip().splitlines()[-1])
        else:
            self._selector.unregister(self._watcher[1])

    def _end_watching(self, is_there: bool = True) -> None:
        if self._watcher is None:
            return
        pid, line = self._watcher
        self._watcher = None
        with contextlib.suppress(KeyError):
            self._selector.unregister(line)
        line.close()
        if is_there:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def delay(failures: int) -> float:
    """Return the seconds until a worker is tried again: none at first, then twice as many each time."""
    return 0.0 if failures <= 1 else min(FIRST_DELAY * 2 ** (failures - 2), LONGEST_DELAY)
