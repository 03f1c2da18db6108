"""Between a server's topics and a backplane: who wants what, what came, what may be missing.

In: publications and subscriptions of this server, packets of others. Out: packets and names for the engine,
deliveries, and word to listeners when a message may be missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastws._packets import CONTROL_TOPIC, Packet, pack, unpack
from fastws._relaying import keeping, receive, recover, unwanted
from fastws.backplane.engine import Backplane, BackplaneStats, Entry
from fastws.backplane.roster import Roster
from fastws.log import report
from fastws.patterns import expression_of

if TYPE_CHECKING:
    from fastws._keeping import Kept
    from fastws._topics import Topic, Topics
    from fastws.backplane.engine import Logger

# Seconds in which gaps are gathered before listeners are told.
GATHER = 0.05


class Relay:
    """
    One server's part in a backplane.

    Args:
        topics: the server's.
        open_engine: makes the engine, given the relay.
        on_gap: called with the topics of which messages may be missing, None for any.

    Attributes:
        stats: counts, see `BackplaneStats`.
        engine: the backplane.
        roster: which servers there are, and who is where.
    """

    def __init__(
        self,
        topics: Topics,
        open_engine: Callable[[Relay], Backplane],
        loop: asyncio.AbstractEventLoop,
        logger: Logger,
        on_gap: Callable[[frozenset[str] | None], None],
    ) -> None:
        self.stats = BackplaneStats()
        self.epoch = topics.epoch
        self.logger = logger
        self.loop = loop
        self._topics = topics
        self._on_gap = on_gap
        self._changed: set[str] = set()
        self._wanted = {CONTROL_TOPIC, f"{CONTROL_TOPIC}.{topics.epoch}"}
        self._rules: dict[str, tuple[int, int | None, float | None]] = {}
        self._gaps: set[str | None] = set()
        self._telling: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Handle | None = None
        self.roster: Roster = Roster(self, topics)
        self.engine = open_engine(self)

    async def start(self) -> None:
        self._topics.attach(self)
        await self.engine.start()
        self.roster.start()

    async def close(self) -> None:
        self._topics.attach(None)
        self.roster.close()
        for handle in (self._telling, self._flushing):
            if handle is not None:
                handle.cancel()
        await self.engine.close()

    # ---------------------------------------------------------------- from the topics

    def published(
        self, topic: Topic, sequence: int, key: str | None, frame: bytes, compress: bool | None, wall: float
    ) -> None:
        """Hand on what was published here."""
        if self.engine.alone:
            return
        try:
            packet = pack(topic.name, self.epoch, sequence, wall, key, frame, compress)
        except ValueError as error:
            # It was delivered here already; its number will be missing elsewhere.
            self.stats.dropped += 1
            report(self.logger, logging.WARNING, "not published beyond this server: %s", error)
            return
        self.engine.publish(topic.name, packet, topic.rule, topic.kept, key)

    def interest(self, name: str) -> None:
        """Note that the first subscriber came, or the last one went, or that a name was declared."""
        self._changed.add(name)
        if self._flushing is None and not self.loop.is_closed():
            self._flushing = self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Tell the engine which names have come to be wanted, and which no longer are."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        added, removed = set(), set()
        for name in self._changed:
            topic = self._topics.find(name)
            if topic is not None and topic.kept is not None and topic.rule == name:
                if self._rules.get(name) != topic.kept.limits:
                    self._rules[name] = topic.kept.limits
                    added.add(name)
                wanted = True
            else:
                wanted = topic is not None and len(topic) > 0
            if wanted and name not in self._wanted:
                added.add(name)
            elif not wanted and name in self._wanted:
                removed.add(name)
        self._changed.clear()
        self._wanted |= added
        self._wanted -= removed
        for name in removed:
            unwanted(self._topics, name)
        if added or removed:
            self.engine.want(added, removed)

    async def settle(self) -> None:
        """
        Wait until other servers know what is subscribed to here.

        Raises: ConnectionError when the engine, or with `local` one of the servers, does not answer.
        """
        self.flush()
        await self.engine.settle()

    # ---------------------------------------------------------------- from the engine

    def wanted(self) -> set[str]:
        return self._wanted

    def rules(self) -> dict[str, tuple[int, int | None, float | None]]:
        return self._rules

    def connected(self, epoch: str | None = None) -> None:
        self.roster.announce(epoch)

    def receive(self, data: bytes, late: bool = False) -> None:
        """Take a packet; what is none is counted, and costs nothing else. `late`: it had to wait."""
        try:
            packet = unpack(data)
            if packet.epoch == self.epoch:
                return
            if packet.control:
                self.roster.hear(packet)
                return
            self._deliver(packet, late)
        except ValueError as error:  # UnicodeDecodeError is one
            self.stats.malformed += 1
            report(self.logger, logging.WARNING, "backplane: %s", error)

    def _deliver(self, packet: Packet, late: bool) -> None:
        missing = receive(
            self._topics,
            packet.topic,
            packet.epoch,
            packet.sequence,
            packet.wall,
            packet.key,
            packet.frame,
            packet.compress,
        )
        if missing < 0:
            self.stats.duplicates += missing == -1
            return
        self.stats.received += 1
        self.stats.recovered += late
        if missing:
            self.stats.missing += missing
            self.gap(packet.topic)

    def recovered(self, name: str, history: list[Entry], retained: list[Entry], held: list[bytes]) -> None:
        """Take what was kept of a topic, then the packets of it that came while it was fetched."""
        begun: dict[str, int] = {}
        for data in held:
            try:
                packet = unpack(data)
            except ValueError:
                continue  # `receive` counts it
            begun[packet.epoch] = min(packet.sequence, begun.get(packet.epoch, packet.sequence))
        try:
            late, missing = recover(self._topics, name, history, retained, begun)
        except ValueError as error:
            self.stats.malformed += 1
            report(self.logger, logging.WARNING, "backplane: %s", error)
        else:
            self.stats.received += late
            self.stats.recovered += late
            if missing:
                self.stats.missing += missing
                self.gap(name)
        for data in held:
            self.receive(data)

    def kept_names(self, rule: str) -> list[str]:
        """Return the topics that keep messages, and that a declared name or pattern matches."""
        if "*" not in rule:
            topic = self._topics.find(rule)
            return [] if topic is None or topic.kept is None else [rule]
        expression = expression_of(rule)
        return [topic.name for topic in keeping(self._topics) if expression.fullmatch(topic.name)]

    def kept(self, name: str) -> Kept | None:
        """Return what is kept here of a topic."""
        topic = self._topics.find(name)
        return None if topic is None else topic.kept

    def number(self, name: str) -> int:
        """Return the number of the last message that was published here for a topic."""
        return self._topics.sequence_of(name)

    def gone(self, epoch: str) -> None:
        self.roster.gone(epoch)

    def gap(self, name: str | None) -> None:
        """Let listeners know, soon, that messages of a topic, or of any, may be missing."""
        self._gaps.add(name)
        if self._telling is None:
            self._telling = self.loop.call_later(GATHER, self._tell)

    def _tell(self) -> None:
        self._telling = None
        gaps, self._gaps = self._gaps, set()
        self.stats.gaps += 1
        self._on_gap(None if None in gaps else frozenset(name for name in gaps if name is not None))
