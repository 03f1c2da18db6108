"""
Slots: a worker's place, which stays when the process in it is replaced; and what a supervisor knows of the
process.

In: what a worker writes on its line. Out: orders on it, and signals.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(eq=False)
class Slot:
    """
    A place for a worker.

    Attributes:
        number: the `worker_id` of who is in it.
        sockets: the listening ones, kept open between two workers.
        current: the worker that serves; None between two.
        coming: the one that gets ready to.
        leaving: those that drain, as they are replaced or stop by themselves; the longest first.
        failures: how many in a row have ended before they were ready.
        quick: how many in a row have ended, or begun to stop, soon after.
        due: when the next one begins; None: there is one, or nobody is wanted.
    """

    number: int
    sockets: list[socket.socket]
    current: Worker | None = None
    coming: Worker | None = None
    leaving: list[Worker] = field(default_factory=list)
    failures: int = 0
    quick: int = 0
    due: float | None = None

    def is_changing(self) -> bool:
        """Tell whether somebody comes or leaves."""
        return self.coming is not None or bool(self.leaving) or self.due is not None


@dataclass(eq=False)
class Worker:
    """
    A process in a slot.

    Attributes:
        line: what it says comes there.
        began: when it was forked, on the monotonic clock.
        deadline: when it has to be ready, to have given a sign of life, or to have ended; None: no limit.
        open_count, opening_count: its connections, when it last said so.
        failure: why it could not start, as it said.
        silent: it will say no more.
    """

    slot: Slot
    pid: int
    line: socket.socket
    began: float
    deadline: float | None
    is_ready: bool = False
    is_leaving: bool = False
    was_killed: bool = False
    open_count: int = 0
    opening_count: int = 0
    failure: str | None = None
    silent: bool = False
    _heard: bytes = field(default=b"", repr=False)

    def hear(self) -> Iterator[tuple[str, str]]:
        """Yield what it said since last time, as a word and what follows it."""
        data = b""
        if self.line.fileno() < 0:
            return  # closed since it was found readable
        with contextlib.suppress(BlockingIOError, InterruptedError):
            try:
                while piece := self.line.recv(65536):
                    data += piece
                self.silent = True
            except ConnectionError:
                self.silent = True
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            yield word, rest

    def alive(self, counts: str, now: float, stall_timeout: float | None) -> None:
        """Take a sign of life."""
        first, _, second = counts.partition(" ")
        self.open_count, self.opening_count = int(first), int(second)
        if not self.is_leaving and not self.was_killed:
            self.deadline = None if stall_timeout is None else now + stall_timeout

    def tell(self, order: str) -> None:
        """Give it an order."""
        with contextlib.suppress(OSError):
            self.line.send(f"{order}\n".encode())

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it now."""
        self.was_killed = True
        self.signal(signal.SIGKILL)

    def forget_line(self, selector: selectors.BaseSelector) -> None:
        """Listen to it no more."""
        # It may not be there any more, or be closed.
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(self.line)

    def close(self, selector: selectors.BaseSelector) -> None:
        """It has ended: let go of its line."""
        self.forget_line(selector)
        self.line.close()
