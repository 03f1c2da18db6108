"""The two ends of a connection between two servers of one host: who dials receives, who is dialled sends.

    offset  bytes
    0       4       length of the body, big-endian
    4       1       kind
    5               body

The dialler says who it is (HELLO, its epoch) and what it wants (WANT, JSON with added and removed names and
what it keeps); PING is answered with PONG. The other sends PACKETs that are wanted; of what it keeps itself
PAST and LAST packets, of history and of what is retained, then ENDS with the topic's name; LOST with a
count when its outbox had been full; BYE at the end.
"""

from __future__ import annotations

import asyncio
import collections
import json
import struct
from typing import TYPE_CHECKING, cast

from fastws._packets import HEADER_SIZE, MAX_FRAME, MAX_NAME, pack, unpack
from fastws.backplane.engine import Entry, expression_of

if TYPE_CHECKING:
    import re

    from fastws.backplane.local import LocalBackplane

PREFIX = struct.Struct("!IB")
HELLO, WANT, PING, PONG, PACKET, PAST, LAST, ENDS, LOST, BYE = range(1, 11)
WATCH = 0.05  # seconds between looks at an outbox that was full
MAX_BODY = HEADER_SIZE + 2 * MAX_NAME + MAX_FRAME


def message(kind: int, body: bytes = b"") -> bytes:
    return PREFIX.pack(len(body), kind) + body


class Link(asyncio.Protocol):
    """What both ends do: cut the stream into messages."""

    def __init__(self, engine: LocalBackplane) -> None:
        self.engine = engine
        self.transport: asyncio.Transport | None = None
        self.over: asyncio.Future[None] = engine.receiver.loop.create_future()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if not self.over.done():
            self.over.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        place, end = 0, len(data)
        while end - place >= PREFIX.size:
            size, kind = PREFIX.unpack_from(data, place)
            if size > MAX_BODY:
                self._refuse(f"a message of {size} bytes was announced, limit is {MAX_BODY}")
                return
            if end - place < PREFIX.size + size:
                break
            place += PREFIX.size
            try:
                self.take(kind, data[place : place + size])
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                self._refuse(str(error))
                return
            place += size
        self._rest = data[place:]

    def _refuse(self, why: str) -> None:
        self.engine.receiver.stats.malformed += 1
        self.engine.receiver.logger.warning("backplane: a server of this host: %s", why)
        if self.transport is not None:
            self.transport.abort()

    def take(self, kind: int, body: bytes) -> None:
        raise NotImplementedError


class Inlet(Link):
    """The end that dialled, and receives what it asked for."""

    def __init__(self, engine: LocalBackplane, epoch: str) -> None:
        super().__init__(engine)
        self.epoch = epoch
        self.clean = False
        self._pings: collections.deque[asyncio.Future[None]] = collections.deque()
        self._kept: tuple[list[Entry], list[Entry]] = ([], [])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._write(message(HELLO, bytes.fromhex(self.engine.receiver.epoch)))
        self.want(self.engine.receiver.wanted(), set())
        # Now, and not when who dialled hears of it: what is wanted from here on is said here, too.
        self.engine.inlets[self.epoch] = self

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def want(self, added: set[str], removed: set[str]) -> None:
        rules = self.engine.receiver.rules()
        body = {"add": sorted(added), "remove": sorted(removed), "keep": sorted(added & rules.keys())}
        self._write(message(WANT, json.dumps(body).encode()))

    async def ping(self) -> None:
        """Wait until the other end has taken all that was said. Raises: ConnectionError when it is gone."""
        if self.transport is None:
            raise ConnectionError("not connected to a server of this host")
        pong: asyncio.Future[None] = self.engine.receiver.loop.create_future()
        self._pings.append(pong)
        self._write(message(PING))
        await pong

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self.engine.inlets.get(self.epoch) is self:
            del self.engine.inlets[self.epoch]
        for pong in self._pings:
            if not pong.done():
                pong.set_exception(ConnectionError("a server of this host is gone"))
        self._pings.clear()

    def take(self, kind: int, body: bytes) -> None:
        receiver = self.engine.receiver
        if kind == PACKET:
            receiver.receive(body)
        elif kind in (PAST, LAST):
            packet = unpack(body)
            entry = (packet.epoch, packet.sequence, packet.wall, packet.key, packet.frame)
            self._kept[kind == LAST].append(entry)
        elif kind == ENDS:
            history, retained = self._kept
            self._kept = ([], [])
            receiver.recovered(body.decode(), history, retained, [])
        elif kind == LOST:
            receiver.gap(None)
        elif kind == PONG and self._pings:
            pong = self._pings.popleft()
            if not pong.done():
                pong.set_result(None)
        elif kind == BYE:
            self.clean = True
        else:
            raise ValueError(f"a message of kind {kind} from who sends")


class Outlet(Link):
    """
    The end that was dialled, and sends what was asked for. What does not fit into its outbox is dropped
    and counted.
    """

    def __init__(self, engine: LocalBackplane) -> None:
        super().__init__(engine)
        self.epoch: str | None = None
        self.names: set[str] = set()
        self.patterns: dict[str, re.Pattern[str]] = {}
        self._keep: set[str] = set()
        self._waiting: list[bytes] = []
        self._size = 0
        self._lost = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        limit = self.engine.limit
        assert self.transport is not None
        self.transport.set_write_buffer_limits(high=limit, low=limit // 4)
        self.engine.outlets.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        # What has not left is lost with the process that it was for, or with the connection to it.
        self.engine.receiver.stats.in_doubt += len(self._waiting)
        self._waiting.clear()
        self.engine.outlets.discard(self)
        self.engine.routes.clear()

    def wants(self, topic: str) -> bool:
        return topic in self.names or any(one.fullmatch(topic) for one in self.patterns.values())

    def send(self, packet: bytes) -> None:
        """Queue a packet; what one turn of the event loop queues leaves together."""
        stats = self.engine.receiver.stats
        if self.transport is None:
            return
        if (
            self._lost
            or self.transport.get_write_buffer_size() + self._size + len(packet) > self.engine.limit
        ):
            # Until the outbox has drained nothing passes: what comes after the gap comes after word of it.
            if not self._lost:
                self._watch()
            self._lost += 1
            stats.dropped += 1
            return
        stats.sent += 1
        if not self._waiting:
            self.engine.receiver.loop.call_soon(self.flush)
        self._waiting.append(message(PACKET, packet))
        self._size += len(packet)

    def flush(self) -> None:
        if self.transport is not None and self._waiting:
            self.transport.write(b"".join(self._waiting))
            self._waiting.clear()
            self._size = 0

    def _watch(self) -> None:
        # One large packet may not fit though the transport was never full, and then tells nothing.
        self.engine.receiver.loop.call_later(WATCH, self._look)

    def _look(self) -> None:
        if self._lost and self.transport is not None:
            if self.transport.get_write_buffer_size() <= self.engine.limit // 4:
                self.resume_writing()
            else:
                self._watch()

    def resume_writing(self) -> None:
        """Go on after packets were dropped: with what is kept of them, and word of the rest."""
        if not self._lost or self.transport is None:
            return
        self.flush()
        lost, self._lost = self._lost, 0
        self._send_kept(self._keep)
        self.transport.write(message(LOST, struct.pack("!Q", lost)))

    def take(self, kind: int, body: bytes) -> None:
        if kind == HELLO:
            if len(body) != 8:
                raise ValueError(f"an epoch has {len(body)} bytes, expected 8")
            self.epoch = body.hex()
            self.engine.meet(self.epoch)
        elif kind == WANT:
            self._want(json.loads(body))
        elif kind == PING:
            self.flush()
            if self.transport is not None:
                self.transport.write(message(PONG))
        else:
            raise ValueError(f"a message of kind {kind} from who receives")

    def _want(self, said: dict[str, list[str]]) -> None:
        for name in said["add"]:
            if "*" in name:
                self.patterns[name] = expression_of(name)
            else:
                self.names.add(name)
        for name in said["remove"]:
            self.names.discard(name)
            self.patterns.pop(name, None)
        self._keep = (self._keep | set(said["keep"])) - set(said["remove"])
        self.engine.routes.clear()
        self._send_kept(set(said["keep"]))

    def _send_kept(self, rules: set[str]) -> None:
        """Send what is kept here: what was published here, and by servers that are gone."""
        receiver = self.engine.receiver
        if self.transport is None:
            return
        self.flush()
        there = self.engine.epochs() - {receiver.epoch}
        for name in {name for rule in rules for name in receiver.kept_names(rule)}:
            parts = []
            for kind, entries in zip((PAST, LAST), receiver.kept(name) or ((), ()), strict=True):
                for epoch, sequence, wall, key, frame in entries:
                    if epoch not in there and epoch != self.epoch:
                        parts.append(message(kind, pack(name, epoch, sequence, wall, key, frame)))
            self.transport.write(b"".join((*parts, message(ENDS, name.encode()))))

    def bye(self) -> None:
        self.flush()
        if self.transport is not None:
            if not self._lost:
                self.transport.write(message(BYE))
            self.transport.close()
