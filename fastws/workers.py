"""
Workers: a process of several that serve one port, and its line to the supervisor that has forked it.

In: orders, a word a line: "stop", "drain", "abort"; and the line's end, which is the supervisor's. Out:
"ready", "alive" with counts, "failed" with the reason, "leaving" when it stops without having been told to.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastws.server import Server

__all__ = ["Post", "worker_id"]

# Seconds between two signs of life.
PERIOD = 1.0


def worker_id() -> int | None:
    """
    Return which of the workers of `run(workers=...)` this process is.

    Returns: 0 and up; who replaces a worker has its number. None in a process that is no worker.
    """
    return _posts[-1].number if _posts else None


@dataclass
class Post:
    """
    What a worker is given.

    Attributes:
        number: its `worker_id`.
        sockets: that it accepts connections from; they stay the supervisor's as well.
        line: connected to the supervisor.
    """

    number: int
    sockets: list[socket.socket]
    line: socket.socket

    def take(self) -> None:
        """Become this worker: its number, and the name of its process in log records."""
        # Not for everybody: what logging looks up here takes a while to import.
        import multiprocessing

        _posts.append(self)
        multiprocessing.current_process().name = f"worker-{self.number}"

    def say(self, text: str) -> None:
        """Tell the supervisor; what it does not take at once is lost, and so is what nobody hears."""
        try:
            self.line.send(f"{text}\n".encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            logging.getLogger("fastws.workers").debug("the supervisor does not hear %r: %s", text, error)

    def failed(self, why: str) -> None:
        """The worker cannot start, and ends."""
        self.say(f"failed {json.dumps(why[:2000])}")


# This process's: one, or none.
_posts: list[Post] = []


class Duty:
    """
    A worker's work on an event loop: obey orders, and give signs of life.

    Args:
        order: called with "stop", "drain" or "abort".
    """

    def __init__(self, post: Post, loop: asyncio.AbstractEventLoop, order: Callable[[str], None]) -> None:
        self._post = post
        self._loop = loop
        self._order = order
        self._server: Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = b""
        self._ordered = False
        self.is_orphan = False  # the supervisor has ended
        post.line.setblocking(False)
        loop.add_reader(post.line.fileno(), self._hear)

    def _hear(self) -> None:
        try:
            data = self._post.line.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionError:
            data = b""
        if not data:
            # Nobody would replace this worker, or tell it anything: it is not to hold the port for ever.
            self._loop.remove_reader(self._post.line.fileno())
            self._ordered = self.is_orphan = True
            self._order("stop")
            return
        *words, self._heard = (self._heard + data).split(b"\n")
        for word in words:
            self._ordered = True
            self._order(word.decode())

    def ready(self, server: Server) -> None:
        """Connections are accepted."""
        self._server = server
        self._post.say("ready")
        self._live()
        server._on_leaving = self._leaves
        if not server.is_serving():
            self._leaves()

    def _leaves(self) -> None:
        # Connections wait at the sockets from here on, for whoever comes next.
        if not self._ordered:
            self._post.say("leaving")

    def _live(self) -> None:
        assert self._server is not None
        settings = self._server._settings
        self._post.say(f"alive {settings.open_count} {settings.opening_count}")
        self._timer = self._loop.call_later(PERIOD, self._live)

    def end(self) -> None:
        """Hear and say no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._post.line.fileno())
