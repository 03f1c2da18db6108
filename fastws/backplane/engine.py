"""What every backplane offers, and what it is told.

In: packets to publish, names that are wanted. Out: packets of other servers, what they kept, and word of
what may be missing, all to a `Receiver`.
"""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import logging
import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from fastws._packets import MAX_NAME

if TYPE_CHECKING:
    from fastws._keeping import Kept

    Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

# epoch, sequence, seconds since 1970, key, frame
Entry = tuple[str, int, float, "str | None", bytes]


@dataclasses.dataclass
class BackplaneStats:
    """
    What went between this server and others.

    Attributes:
        sent: messages that were handed over to others or to the engine.
        received: messages of others that were delivered here.
        recovered: those of them that came late, from what was kept, before anything newer.
        dropped: messages that found the outbox full, and that no history held until it had room; others did
            not get them.
        in_doubt: messages that were under way when a connection failed: others may have got them.
        missing: messages of others that did not come, by the gaps in their numbers.
        duplicates: packets that had come before, and were not delivered again.
        malformed: packets that were none.
        gaps: how often subscribers were told that something may be missing.
        reconnects: how often a connection was made again.
    """

    sent: int = 0
    received: int = 0
    recovered: int = 0
    dropped: int = 0
    in_doubt: int = 0
    missing: int = 0
    duplicates: int = 0
    malformed: int = 0
    gaps: int = 0
    reconnects: int = 0


class Keep(Protocol):
    """How much is kept of a topic; what `Server.topic` was given."""

    @property
    def limits(self) -> tuple[int, int | None, float | None]: ...


class Receiver(Protocol):
    """What an engine tells."""

    stats: BackplaneStats
    epoch: str
    logger: Logger
    loop: asyncio.AbstractEventLoop

    def receive(self, data: bytes, late: bool = False) -> None:
        """Take a packet; `late`: it had to wait where it is kept."""

    def recovered(self, name: str, history: list[Entry], retained: list[Entry], held: list[bytes]) -> None:
        """Take what was kept of a topic, and packets of it that came while it was fetched."""

    def kept(self, name: str) -> Kept | None:
        """Return what is kept here of a topic, its history and what is retained."""

    def number(self, name: str) -> int:
        """Return the number of the last message that was published here for a topic."""

    def kept_names(self, rule: str) -> list[str]:
        """Return the topics that keep messages, and that a declared name or pattern matches."""

    def rules(self) -> dict[str, tuple[int, int | None, float | None]]:
        """Return the declarations that keep messages, with retain, history and history_seconds."""

    def wanted(self) -> set[str]:
        """Return the names and patterns that are wanted."""

    def connected(self, epoch: str | None = None) -> None:
        """Hear that others can be reached, or one of them."""

    def gone(self, epoch: str) -> None:
        """Hear that a server is there no more."""

    def gap(self, name: str | None) -> None:
        """Hear that messages of a topic, with None of any, may be missing."""


class Backplane(abc.ABC):
    """
    Joins servers, so that what one publishes reaches the subscribers of all.

    Subclasses are made with the URL, a `Receiver`, and the bound of the outbox in bytes.
    """

    # Whether it can hand packets over now, and whether it tells others itself of those that it dropped.
    up = True
    tells_loss = False
    # Messages that came of what others keep; as long as there come more, it is worth waiting in `settle`.
    fetched = 0

    @property
    def alone(self) -> bool:
        """Whether it is certain that nobody would get a packet, so that it need not be made."""
        return False

    @abc.abstractmethod
    async def start(self) -> None:
        """Connect, or go on trying; does not raise for an engine that is down."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Hand over what waits, for some seconds at most, and disconnect."""

    @abc.abstractmethod
    def want(self, added: set[str], removed: set[str]) -> None:
        """Ask for names and patterns, and no longer for others."""

    @abc.abstractmethod
    def publish(
        self, topic: str, packet: bytes, rule: str | None, keep: Keep | None, key: str | None
    ) -> None:
        """Hand a packet over, or queue it. `rule`, `keep`: what was declared for its topic, if it is kept."""

    @abc.abstractmethod
    async def settle(self) -> None:
        """Wait until others know what is wanted here. Raises: ConnectionError when they cannot be reached."""


def size_of(name: str) -> int | None:
    """Return the bytes of a name; None for one that no packet can have, so that asking for it is no use."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return None
    return size if size <= MAX_NAME else None


async def wait_while_it_goes_on(
    ended: asyncio.Future[None], progress: Callable[[], int], still: float, most: float | None = None
) -> None:
    """
    Wait for a future, as long as there is hope.

    Args:
        progress: counts what has been done.
        still: seconds in which that has to rise.
        most: seconds in all; None: no limit.
    """
    loop = asyncio.get_running_loop()
    end = math.inf if most is None else loop.time() + most
    before = -1
    while not ended.done() and loop.time() < end and before < progress():
        before = progress()
        await asyncio.wait([ended], timeout=min(still, max(end - loop.time(), 0.0)))


class Delays:
    """
    Seconds to wait before connecting again: twice as long each time, up to `most`, and never the same
    for all.
    """

    def __init__(self, first: float = 0.05, most: float = 5.0) -> None:
        self._first = self._next = first
        self._most = most

    def reset(self) -> None:
        self._next = self._first

    def next(self) -> float:
        delay = self._next
        self._next = min(2 * delay, self._most)
        return delay * random.uniform(0.5, 1.0)
