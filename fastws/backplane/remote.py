"""What backplanes over an engine do alike: one session after another, a bounded outbox, and packets held
back while what was kept is fetched.

In: packets to publish. Out: calls of the engine's own session, and to the receiver what came, in order.
"""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import logging
import re
from collections.abc import Awaitable
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastws._packets import is_message
from fastws.backplane.engine import Backplane, Delays, Entry, Keep, Receiver, size_of
from fastws.log import report
from fastws.patterns import expression_of

T = TypeVar("T")

# Seconds to wait for the engine when the server starts, and at the end for what waits.
START = 5.0
END = 1.0
# Seconds after which a connection that is lost again was a good one.
STEADY = 5.0
# A batch for the engine: packets, and bytes, of which one packet may be more.
BATCH = 512
BATCH_BYTES = 1024 * 1024
# Bytes that may be held back while what was kept is fetched.
MAX_HELD = 64 * 1024 * 1024


def prefix_of(url: str) -> tuple[str, str]:
    """Return what the names in the engine begin with, by a URL's `?prefix=`, and the URL without that."""
    base, _, text = url.partition("?")
    query = parse_qsl(text)
    rest = urlencode([(name, value) for name, value in query if name != "prefix"])
    return dict(query).get("prefix", "fastws"), f"{base}?{rest}" if rest else base


async def within(seconds: float, awaitable: Awaitable[T]) -> T:
    """
    Wait for so long. Raises: TimeoutError, as `asyncio.wait_for`, which before Python 3.12 may overlook that
    it is cancelled.
    """
    task = asyncio.ensure_future(awaitable)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())  # which is not logged then
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    if not task.done():
        await asyncio.wait({task})
    if task.cancelled():
        raise TimeoutError(f"no answer within {seconds:g} s")
    return task.result()


class Outgoing(NamedTuple):
    topic: str
    packet: bytes
    rule: str | None
    limits: tuple[int, int | None, float | None] | None
    key: str | None


class Interest:
    """
    What to subscribe to upstream: patterns, and names that none of them matches. Messages come once
    then.
    """

    def __init__(self) -> None:
        self.current: set[str] = set()
        self._names: set[str] = set()
        self._patterns: dict[str, re.Pattern[str]] = {}

    def change(self, added: set[str], removed: set[str]) -> tuple[set[str], set[str]]:
        """Return what to subscribe to, and then what no longer to."""
        patterns = {name for name in added | removed if "*" in name}
        touched = (added | removed) - patterns
        self._names |= added - patterns
        self._names -= removed
        for name in patterns:
            self._patterns.pop(name, None)
            if name in added:
                self._patterns[name] = expression_of(name)
        if patterns:
            touched = touched | self._names
        target = {
            name
            for name in touched & self._names
            if not any(one.fullmatch(name) for one in self._patterns.values())
        }
        target |= patterns & self._patterns.keys()
        new = target - self.current
        gone = ((touched | patterns) - target) & self.current
        self.current |= new
        self.current -= gone
        return new, gone


class Remote(Backplane):
    """
    Base of backplanes over an engine. Attributes:

        silence: seconds without an answer after which a connection counts as lost.
    """

    silence = 5.0
    engine = ""

    def __init__(self, receiver: Receiver, limit: int) -> None:
        self.receiver = receiver
        self.limit = limit
        self.up = False
        self._was_up = False
        self._told = False  # that it cannot be reached, or was lost
        self._since: float | None = None  # when this session began to serve
        self._outbox: collections.deque[Outgoing] = collections.deque()
        self._size = 0
        self._filled = asyncio.Event()
        self._wishes: tuple[set[str], set[str]] = (set(), set())
        self._wished = asyncio.Event()
        self._calm = asyncio.Event()  # nothing is wished that the engine does not know of
        self._first = asyncio.Event()
        self._aside: dict[str, list[tuple[str, bytes]]] = {}  # what came by new subscriptions
        self._held: dict[str, list[bytes]] | None = None
        self._held_size = 0
        self._held_rules: list[re.Pattern[str]] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    # ---------------------------------------------------------------- what an engine does

    @abc.abstractmethod
    async def session(self) -> None:
        """Connect, call `serve`, and disconnect, whatever happens. Raises: what ended it."""

    @abc.abstractmethod
    async def subscribe(self, names: list[str]) -> None:
        """Subscribe to names and patterns, in this order."""

    @abc.abstractmethod
    async def unsubscribe(self, names: set[str]) -> None:
        """The opposite."""

    @abc.abstractmethod
    async def prepare(self, rule: str, limits: tuple[int, int | None, float | None]) -> None:
        """See to it that what is published from here on for a declared name is kept."""

    @abc.abstractmethod
    async def send(self, batch: list[Outgoing]) -> int:
        """Publish, and wait for the engine's answer. Returns: how many messages it refused."""

    @abc.abstractmethod
    async def fetch(self, rule: str) -> dict[str, tuple[list[Entry], list[Entry]]]:
        """Return what was kept of a declared name, by topic; each answer has `silence` seconds to come."""

    @abc.abstractmethod
    async def barrier(self) -> None:
        """Wait until all that was published before has come, and raise when the connection is dead."""

    failures: tuple[type[BaseException], ...] = (OSError, asyncio.TimeoutError, TimeoutError)

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        self._task = self.receiver.loop.create_task(self._run())
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await within(START, self._first.wait())

    async def close(self) -> None:
        self._closing = True
        if self._task is None:
            return
        self._filled.set()
        if self.up:
            await asyncio.wait([self._task], timeout=END)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.receiver.stats.dropped += sum(is_message(item.packet) for item in self._outbox)
        self._outbox.clear()

    async def _run(self) -> None:
        delays = Delays()
        while not self._closing:
            self._since = None
            try:
                await self.session()
            except Exception as error:
                if not isinstance(error, self.failures):
                    # A fault of ours, or of the library's: connecting anew is all that can be done about it.
                    self.receiver.logger.exception("backplane: %s", self.engine)
                was = self._since is not None  # `serve` has taken `up` back already
                self._let_go({})
                if was or not self._was_up:
                    self._told = True
                    report(
                        self.receiver.logger,
                        logging.WARNING,
                        "backplane: %s %s: %s; local delivery goes on",
                        self.engine,
                        "lost" if was else "cannot be reached",
                        str(error) or type(error).__name__,
                    )
                if was:
                    if self.receiver.loop.time() - (self._since or 0.0) > STEADY:
                        delays.reset()
                    self.receiver.gap(None)
                self._first.set()
                await asyncio.sleep(delays.next())

    async def serve(self) -> None:
        """One session, once connected: until it fails, or all has been sent at the end."""
        interest = Interest()
        loop = self.receiver.loop
        self._wishes = (set(), set())
        self._wished.clear()
        await self._follow(interest, set(self.receiver.wanted()), set())
        again, self._was_up = self._was_up, True
        self.up = True
        self._since = self.receiver.loop.time()
        if again:
            self.receiver.stats.reconnects += 1
            self.receiver.gap(None)
        if self._told:
            self._told = False
            self.receiver.logger.info("backplane: connected to %s", self.engine)
        self.receiver.connected()
        if not self._wished.is_set():
            self._calm.set()
        self._first.set()
        sending = loop.create_task(self._sending())
        others = {loop.create_task(self._wishing(interest)), loop.create_task(self._beating())}
        try:
            done, _ = await asyncio.wait({sending, *others}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.up = False
            for task in (sending, *others):
                task.cancel()
            await asyncio.gather(sending, *others, return_exceptions=True)

    async def _beating(self) -> None:
        while True:
            await asyncio.sleep(self.silence / 4)
            await within(self.silence, self.barrier())

    # ---------------------------------------------------------------- out

    def publish(
        self, topic: str, packet: bytes, rule: str | None, keep: Keep | None, key: str | None
    ) -> None:
        if not is_message(packet):
            if not self.up:
                return
        elif self._size + len(packet) > self.limit or self._closing:
            self.receiver.stats.dropped += 1
            return
        self._outbox.append(Outgoing(topic, packet, rule, None if keep is None else keep.limits, key))
        self._size += len(packet)
        self._filled.set()

    async def _sending(self) -> None:
        stats = self.receiver.stats
        while True:
            while not self._outbox:
                if self._closing:
                    return
                self._filled.clear()
                await self._filled.wait()
            batch: list[Outgoing] = []
            room = BATCH_BYTES
            while self._outbox and len(batch) < BATCH and room > 0:
                batch.append(self._outbox.popleft())
                room -= len(batch[-1].packet)
            messages = sum(is_message(item.packet) for item in batch)
            try:
                refused = await within(self.silence, self.send(batch))
            except BaseException:
                # Sent again, they might come twice.
                stats.in_doubt += messages
                raise
            finally:
                self._size -= sum(len(item.packet) for item in batch)
            stats.sent += messages - refused
            stats.dropped += refused

    # ---------------------------------------------------------------- what is wanted

    def want(self, added: set[str], removed: set[str]) -> None:
        new, gone = self._wishes
        self._wishes = (new - removed) | added, (gone - added) | removed
        self._calm.clear()
        self._wished.set()

    async def _wishing(self, interest: Interest) -> None:
        while True:
            await self._wished.wait()
            self._wished.clear()
            (added, removed), self._wishes = self._wishes, (set(), set())
            await self._follow(interest, added, removed)
            if not self._wished.is_set():
                self._calm.set()

    def can_say(self, name: str) -> bool:
        """Return whether the engine can be told of a name. One that it cannot would end each session."""
        return size_of(name) is not None

    async def _follow(self, interest: Interest, added: set[str], removed: set[str]) -> None:
        unsaid = {name for name in added if not self.can_say(name)}
        for name in unsaid:
            report(
                self.receiver.logger,
                logging.WARNING,
                "backplane: not subscribed to %.50r beyond this server",
                name,
            )
        added = added - unsaid
        rules = {name: limits for name, limits in self.receiver.rules().items() if name in added}
        for rule, limits in rules.items():
            await within(self.silence, self.prepare(rule, limits))
        self._held_rules = [expression_of(rule) for rule in rules]
        self._held = {} if rules else None
        new, gone = interest.change(added, removed)
        # What a new subscription brings may overtake what others were brought before of the same topics, and
        # what waits for one that ends goes with it: so those are emptied first.
        self._aside = {name: [] for name in new}
        try:
            if new:
                await within(self.silence, self.subscribe(list(self._aside)))
            await within(self.silence, self.barrier())
            self._release()
            if gone:
                await within(self.silence, self.unsubscribe(gone))
            found: dict[str, tuple[list[Entry], list[Entry]]] = {}
            for rule in rules:
                found.update(await self.fetch(rule))
            if rules:
                await within(self.silence, self.barrier())
            self._let_go(found)
        finally:
            self._release()
            self._let_go({})

    async def settle(self) -> None:
        if not self.up:
            raise ConnectionError(f"not connected to {self.engine}")
        try:
            await within(START, self._calm.wait())
        except (asyncio.TimeoutError, TimeoutError):
            raise ConnectionError(f"{self.engine} does not answer") from None

    # ---------------------------------------------------------------- in

    def came(self, topic: str, packet: bytes, by: str | None = None) -> None:
        """
        Take a packet that came, or hold it back: while what was kept of its topic is fetched, or what came
        before by other subscriptions is taken.

        Args:
            by: the subscription, where those have no order between them.
        """
        if by in self._aside:
            self._aside[by].append((topic, packet))
        elif self._held is not None and any(one.fullmatch(topic) for one in self._held_rules):
            self._held.setdefault(topic, []).append(packet)
        else:
            self.receiver.receive(packet)
            return
        self._held_size += len(packet)
        if self._held_size > MAX_HELD:
            self._release()
            self._let_go({})

    def _release(self) -> None:
        # Of two that bring the same the earlier one has more of it; what the later one has comes twice then.
        aside, self._aside = self._aside, {}
        for came in aside.values():
            for topic, packet in came:
                self._held_size -= len(packet)
                self.came(topic, packet)

    def _let_go(self, found: dict[str, tuple[list[Entry], list[Entry]]]) -> None:
        held, self._held = self._held or {}, None
        self._held_size = 0
        for topic, (history, retained) in found.items():
            self.receiver.recovered(topic, history, retained, held.pop(topic, []))
        for packets in held.values():
            for packet in packets:
                self.receiver.receive(packet)
