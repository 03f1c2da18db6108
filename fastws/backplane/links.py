"""The two ends of a connection between two servers of one host: who dials receives, who is dialled sends.

    offset  bytes
    0       4       length of the body, big-endian
    4       1       kind
    5               body

The dialler says who it is (HELLO, its epoch) and what it wants (WANT, JSON with added and removed names and
what it keeps); PING is answered with PONG, once what was asked for before has been sent. The other sends
PACKETs that are wanted; of what it keeps itself PAST and LAST packets, of history and of what is retained,
then ENDS with the topic's name, or FORGET when no more of it comes; LATE packets, which its outbox had no
room for; LOST with a count of those that will not come; BYE at the end when all have.
"""

from __future__ import annotations

import asyncio
import collections
import json
import struct
from typing import TYPE_CHECKING, cast

from fastws._packets import CONTROL_TOPIC, HEADER_SIZE, MAX_FRAME, MAX_NAME, is_message, pack, unpack
from fastws.backplane.behind import ENDS, LAST, LATE, PAST, Behind
from fastws.backplane.engine import Entry, Keep, size_of
from fastws.patterns import expression_of

if TYPE_CHECKING:
    import re

    from fastws.backplane.local import LocalBackplane

PREFIX = struct.Struct("!IB")
HELLO, WANT, PING, PONG, PACKET = range(1, 6)
LOST, BYE, FORGET = 10, 11, 12
WATCH = 0.05  # seconds between looks at an outbox that was full
MAX_NAMES = 1000  # in one WANT
MAX_WANT = 1024 * 1024  # bytes of names in one WANT, and of WANTs that wait until changes are gathered
MAX_BODY = HEADER_SIZE + 2 * MAX_NAME + MAX_FRAME


def message(kind: int, body: bytes = b"") -> bytes:
    return PREFIX.pack(len(body), kind) + body


def said_of(kind: int, name: str, entry: Entry | None) -> bytes:
    """Return what to say of what is kept of a topic; nothing where a packet has no room for it."""
    try:
        if entry is None:
            return message(kind, name.encode())
        epoch, sequence, wall, key, frame = entry
        return message(kind, pack(name, epoch, sequence, wall, key, frame))
    except ValueError:
        return b""


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
        self._kept: dict[str, tuple[list[Entry], list[Entry]]] = {}  # by topic, until it ENDS
        self._paused = False
        self._said: set[str] | None = None  # what the other end knows, where that is no more what is wanted
        self._held = 0  # pings that come after that

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.set_write_buffer_limits(high=MAX_WANT, low=MAX_WANT // 4)
        self._write(message(HELLO, bytes.fromhex(self.engine.receiver.epoch)))
        self._ask(self.engine.receiver.wanted(), set())
        # Now, and not when who dialled hears of it: what is wanted from here on is said here, too.
        self.engine.inlets[self.epoch] = self

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        """Say what has changed since there was room for it."""
        self._paused = False
        if self._said is not None:
            wanted, said = self.engine.receiver.wanted(), self._said
            self._said = None
            self._ask(wanted - said, said - wanted)
        self._write(self._held * message(PING))
        self._held = 0

    def want(self, added: set[str], removed: set[str]) -> None:
        if not self._paused:
            self._ask(added, removed)
            return
        # Who is stopped reads nothing: what waits for it must not grow with each change.
        if self._said is None:
            self._said = self.engine.receiver.wanted() | removed
        self._said -= added

    def _ask(self, added: set[str], removed: set[str]) -> None:
        rules = self.engine.receiver.rules()
        body: dict[str, list[str]] = {"add": [], "remove": [], "keep": []}
        count = size = 0
        # What servers tell each other goes first: it is said as soon as the first message has come.
        for name in sorted(added | removed, key=lambda name: (not name.startswith(CONTROL_TOPIC), name)):
            length = size_of(name)
            if length is None:
                continue
            if count == MAX_NAMES or size + length > MAX_WANT:
                self._write(message(WANT, json.dumps(body, ensure_ascii=False).encode()))
                body = {"add": [], "remove": [], "keep": []}
                count = size = 0
            body["add" if name in added else "remove"].append(name)
            if name in added and name in rules:
                body["keep"].append(name)
            count += 1
            size += length
        self._write(message(WANT, json.dumps(body, ensure_ascii=False).encode()))

    async def ping(self) -> None:
        """Wait until the other end has taken all that was said. Raises: ConnectionError when it is gone."""
        if self.transport is None:
            raise ConnectionError("not connected to a server of this host")
        pong: asyncio.Future[None] = self.engine.receiver.loop.create_future()
        self._pings.append(pong)
        if self._paused:
            self._held += 1
        else:
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

    def take_over(self) -> None:
        """Make do with what has come of what the other end kept: it is gone, and no more will come."""
        # Not before: of one that comes back, what follows would pass for news.
        kept, self._kept = self._kept, {}
        for name, (history, retained) in kept.items():
            self.engine.receiver.recovered(name, history, retained, [])

    def take(self, kind: int, body: bytes) -> None:
        receiver = self.engine.receiver
        if kind == PACKET:
            receiver.receive(body)
        elif kind == LATE:
            receiver.receive(body, late=True)
        elif kind in (PAST, LAST):
            packet = unpack(body)
            entry = (packet.epoch, packet.sequence, packet.wall, packet.key, packet.frame)
            self._kept.setdefault(packet.topic, ([], []))[kind == LAST].append(entry)
            self.engine.fetched += 1
        elif kind == ENDS:
            name = body.decode()
            receiver.recovered(name, *self._kept.pop(name, ([], [])), [])
        elif kind == FORGET:
            self._kept.pop(body.decode(), None)
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
    The end that was dialled, and sends what was asked for.

    What does not fit into its outbox is put off where a history keeps it: from then on nothing of that topic
    passes until the link has caught up, from what is kept, a part at a time as the outbox drains. The rest is
    dropped and counted.
    """

    def __init__(self, engine: LocalBackplane) -> None:
        super().__init__(engine)
        self.epoch: str | None = None
        self.names: set[str] = set()
        self.patterns: dict[str, re.Pattern[str]] = {}
        # What is to be caught up in, those first of which messages were put off: they may be let go of.
        self.behind: collections.OrderedDict[str, Behind] = collections.OrderedDict()
        self._pings = 0
        self._waiting: list[bytes] = []
        self._size = 0
        self._lost = 0
        self._written = 0
        self._looking: asyncio.TimerHandle | None = None
        self._ending = False
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        low = self.engine.limit // 4
        self.transport.set_write_buffer_limits(high=low, low=low)
        self.engine.outlets.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        # What has not left is lost with the process that it was for, or with the connection to it.
        stats = self.engine.receiver.stats
        under_way = sum(said[4] == PACKET and is_message(said[PREFIX.size :]) for said in self._waiting)
        stats.sent -= under_way
        stats.in_doubt += under_way
        stats.dropped += sum(behind.late for behind in self.behind.values())
        self._waiting.clear()
        self.behind.clear()
        if self._looking is not None:
            self._looking.cancel()
        self.engine.outlets.discard(self)
        self.engine.routes.clear()

    def _say(self, said: bytes) -> None:
        """Queue a message of the link's own behind what waits."""
        if not self._waiting:
            self.engine.receiver.loop.call_soon(self.flush)
        self._waiting.append(said)
        self._size += len(said)

    @property
    def handed_over(self) -> int:
        """How many bytes have left the outbox."""
        return self._written - (0 if self.transport is None else self.transport.get_write_buffer_size())

    def wants(self, topic: str) -> bool:
        return topic in self.names or any(one.fullmatch(topic) for one in self.patterns.values())

    def send(self, topic: str, packet: bytes, keep: Keep | None) -> None:
        """Queue a packet; what one turn of the event loop queues leaves together."""
        if self.transport is None:
            return
        said = message(PACKET, packet)
        waiting = self.transport.get_write_buffer_size() + self._size
        # Until the outbox has drained nothing passes: what comes after the gap comes after word of it.
        full = self._lost > 0 or waiting + len(said) > self.engine.limit
        if (full or topic in self.behind) and not self._passes(topic, packet, keep, full):
            return
        self.engine.receiver.stats.sent += is_message(packet)
        self._say(said)

    def _passes(self, topic: str, packet: bytes, keep: Keep | None, full: bool) -> bool:
        """Put a packet off, or drop it. Returns: whether it may be sent all the same."""
        has_history = keep is not None and keep.limits[1:] != (None, None)
        if not has_history and not full:
            return True  # only values are behind, and the later one of a key counts
        if keep is not None:
            number = unpack(packet).sequence
            if topic not in self.behind:
                self.behind[topic] = Behind(self.engine.receiver.epoch, number - 1, whole=False)
            self.behind[topic].last = number
        if has_history:
            self.behind[topic].late += 1
            if self.behind[topic].late == 1:
                self.behind.move_to_end(topic, last=False)
        elif is_message(packet):
            self.engine.receiver.stats.dropped += 1
            self._lost += 1
        self._watch(WATCH)
        return False

    def flush(self) -> None:
        if self.transport is not None and self._waiting:
            self.transport.write(b"".join(self._waiting))
            self._written += self._size
            self._waiting.clear()
            self._size = 0

    def _watch(self, delay: float) -> None:
        # What does not fit may be one large packet: the transport was never full then, and tells nothing.
        if self._looking is None:
            self._looking = self.engine.receiver.loop.call_later(delay, self._look)

    def _look(self) -> None:
        self._looking = None
        self.resume_writing()

    def resume_writing(self) -> None:
        """Go on, if the outbox has drained: with word of what was lost, and with what was put off."""
        if self.transport is None or self.transport.is_closing():
            return
        self.flush()
        low = self.engine.limit // 4
        parts: list[bytes] = []
        if self.transport.get_write_buffer_size() <= low:
            if self._lost:
                parts.append(message(LOST, struct.pack("!Q", self._lost)))
                self._lost = 0
            self._catch_up(parts, self.engine.limit - self.transport.get_write_buffer_size())
        if self._pings and not any(behind.whole for behind in self.behind.values()):
            parts.append(self._pings * message(PONG))
            self._pings = 0
        if parts:
            data = b"".join(parts)
            self.transport.write(data)
            self._written += len(data)
        if self._lost or self.behind:
            drained = self.transport.get_write_buffer_size() <= low
            self._watch(0.0 if parts and drained else WATCH)
        elif self._ending:
            self.transport.write(message(BYE))
            self.transport.close()

    def _catch_up(self, parts: list[bytes], free: int) -> None:
        """Append what is due of what is kept, up to half of the outbox, or one larger packet."""
        receiver, limit = self.engine.receiver, self.engine.limit
        others = self.engine.epochs() - {receiver.epoch} | {self.epoch or ""}
        while self.behind:
            name, behind = next(iter(self.behind.items()))
            for kind, entry in behind.due(receiver.kept(name), others):
                said = said_of(kind, name, entry)
                if not said:
                    pass  # no packet holds it, and it was counted when it was published
                elif len(said) > limit:
                    if entry is not None and not behind.was_counted(kind, entry):
                        receiver.stats.dropped += 1
                        self._lost += 1
                elif free - len(said) < (limit // 2 if parts else 0):
                    return
                else:
                    parts.append(said)
                    free -= len(said)
                    if kind == LATE:
                        receiver.stats.sent += 1
                        behind.late = max(behind.late - 1, 0)
            # What is left over was let go of, or is too large.
            del self.behind[name]
            receiver.stats.dropped += behind.late
            if behind.late:
                parts.append(message(LOST, struct.pack("!Q", behind.late)))

    def take(self, kind: int, body: bytes) -> None:
        if kind == HELLO:
            if len(body) != 8:
                raise ValueError(f"an epoch has {len(body)} bytes, expected 8")
            self.epoch = body.hex()
            self.engine.meet(self.epoch)
        elif kind == WANT:
            self._want(json.loads(body))
        elif kind == PING:
            self._pings += 1
            self.resume_writing()
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
        self.engine.routes.clear()
        receiver = self.engine.receiver
        for name in [name for name in self.behind if not self.wants(name)] if said["remove"] else ():
            behind = self.behind.pop(name)
            receiver.stats.dropped += behind.late
            if behind.whole:
                self._say(said_of(FORGET, name, None))
        for name in {name for rule in said["keep"] for name in receiver.kept_names(rule)}:
            if name in self.behind:
                self.behind[name].again()
            else:
                self.behind[name] = Behind(receiver.epoch, receiver.number(name), whole=True)
        self.resume_writing()
        if not self._asked and self.epoch is not None:
            self._asked = True
            receiver.connected(self.epoch)

    def bye(self) -> None:
        """Send what waits, and say that this was all."""
        self._ending = True
        self.resume_writing()
