"""
Invariant: whatever another server sends, as packets or on a link of `local`, is taken or counted as
malformed; a link that is sent what is none is dropped, alone. Nothing else is raised, then or later on the
event loop, and the same comes of it however a link's bytes are cut. Topics that it does not name stay as they
were, and what comes next is delivered.

Runs for FUZZ_SECONDS (30), see harness.py: without atheris with packets and messages that are mutated at
random. A failing input is written to FUZZ_CRASHES (build/fuzz); give such a file as an argument to run it
again.
"""

import asyncio
import dataclasses
import json
import logging
import secrets
import struct
import tempfile
from unittest import mock

import harness

harness.use("core")

import frames  # noqa: E402
from feeding import cut, slices  # noqa: E402

from fastws._packets import CONTROL_TOPIC, pack, unpack  # noqa: E402
from fastws._topics import Topics  # noqa: E402
from fastws.backplane import Relay  # noqa: E402
from fastws.backplane.links import Inlet, Outlet  # noqa: E402
from fastws.backplane.local import LocalBackplane  # noqa: E402

OURS, FRESH, THIRD = "00112233445566ff", "ee" * 8, "0123456789abcdef"
EPOCHS = [OURS, "ff" * 8, "ab" * 8]
# Kept, retained, wanted, by a pattern, and nobody's.
NAMES = ["kept", "last", "kept.a", "x", "x.y.z", "é", ""]
FIELDS = ("topic", "epoch", "sequence", "wall", "key", "frame", "compress", "control")
UNNAMED = "is not named by any input 7c1f9a"
LIMIT = 2**20
ASKED = "00ff"  # about who is there
FRAME = b"\x81\x02ok"

loop = asyncio.new_event_loop()
unheard = []
loop.set_exception_handler(lambda _, context: unheard.append(context))


class Alone(LocalBackplane):
    """A backplane without sockets: links are made by hand."""

    def meet(self, epoch):
        pass


class Transport(asyncio.Transport):
    """A transport to nowhere, which has sent what it was given."""

    def __init__(self):
        super().__init__()
        self.sent = 0
        self.full = False
        self.aborted = False

    def write(self, data):
        self.sent += len(data)

    def get_write_buffer_size(self):
        return LIMIT if self.full else 0

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def is_closing(self):
        return self.aborted

    def close(self):
        self.aborted = True

    abort = close


class Member:
    """A server's part in a backplane, with topics that keep messages."""

    def __init__(self):
        self.topics = Topics(logger, OURS)
        self.gaps = []
        self.relay = Relay(
            self.topics,
            lambda receiver: Alone(tempfile.gettempdir(), receiver, LIMIT),
            loop,
            logger,
            self.gaps.append,
        )
        self.topics.attach(self.relay)
        for name in ("kept", "kept.*", UNNAMED):
            self.declare(name, history=5)
        self.declare("last", retain=2)
        self.relay.flush()
        self.topics.publish_message("kept", "ours", None, None, None, None)
        self.relay.receive(pack(UNNAMED, THIRD, 7, 1.0, None, FRAME))
        assert self.stats.received == 1
        self.unnamed = self.entries(UNNAMED)

    def declare(self, name, **options):
        every = {"policy": "close", "max_bytes": 2**20, "max_frames": 1024, "retain": 0, "history": None}
        every |= {"history_seconds": None, "on_join": None, "on_leave": None}
        self.topics.declare(name, every | options)

    @property
    def stats(self):
        return self.relay.stats

    def entries(self, name):
        """Return the history of a topic and what it retains, if it keeps anything."""
        kept = self.relay.kept(name)
        return () if kept is None else kept.entries()

    def link(self, kind):
        one = Inlet(self.relay.engine, EPOCHS[1]) if kind is Inlet else Outlet(self.relay.engine)
        one.connection_made(Transport())
        return one

    def ask(self):
        """Ask the other servers who is there; return the task that waits for answers."""
        here = json.dumps({"op": "here"}).encode()
        for epoch in EPOCHS[1:]:
            self.relay.receive(pack(CONTROL_TOPIC, epoch, 1, 1.0, None, here, None, True))
        with mock.patch.object(secrets, "token_hex", lambda size: ASKED):
            question = loop.create_task(self.relay.roster.presence("x", 1.0))
            turn()
        return question

    def check(self):
        """What was sent to it has done no harm."""
        turn()
        assert self.entries(UNNAMED) == self.unnamed
        received, malformed = self.stats.received, self.stats.malformed
        self.relay.receive(pack("kept", FRESH, 1, 2.0, None, FRAME))
        assert (self.stats.received, self.stats.malformed) == (received + 1, malformed)
        assert self.entries("kept")[0][-1][:2] == (FRESH, 1)
        turn()

    def state(self):
        """Return what may not depend on how the bytes were cut."""
        kept = [
            [(epoch, sequence, key, frame) for epoch, sequence, _, key, frame in entries]
            for name in ("kept", "kept.a", "last")
            for entries in self.entries(name)
        ]
        # Gaps are gathered for a while, and told then.
        stats = dataclasses.replace(self.stats, gaps=0)
        return stats, kept, self.relay.roster.others


def turn():
    """Let the event loop do what is due."""
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert not unheard, unheard


def run(data):
    """Check one input."""
    parts = harness.without_cuts(data)
    if parts is not None:
        flags, _, at, stream = parts
        if flags % 3 == 0:
            packet(stream)
        else:
            link((Inlet, Outlet)[flags % 3 - 1], stream, at)


def packet(stream):
    try:
        found = unpack(stream)
    except ValueError:
        found = None
    else:
        again = unpack(pack(*(getattr(found, name) for name in FIELDS)))
        for name in FIELDS:
            # Milliseconds that are more than a double can tell apart, or too many for a packet, change.
            assert getattr(again, name) == getattr(found, name) or name == "wall"
    member = Member()
    question = member.ask()
    for count in (1, 2):
        member.relay.receive(stream)
        assert member.stats.malformed in ((count,) if found is None else (0, count))
    if found is not None and not found.control:
        assert member.stats.received - 1 + member.stats.duplicates <= 2
    member.check()
    question.cancel()
    turn()


def link(kind, stream, at):
    whole = taken(kind, [stream])
    assert taken(kind, cut(stream, at)) == whole
    if len(stream) < 1000:
        assert taken(kind, slices(stream, 1)) == whole


def taken(kind, pieces):
    """Return what came of a link's bytes."""
    member = Member()
    one, other = member.link(kind), member.link(kind)
    transport = one.transport
    for piece in pieces:
        one.data_received(piece)
        if transport.aborted:
            break
    if transport.aborted:
        assert member.stats.malformed > 0
        one.connection_lost(None)
    assert not other.transport.aborted
    turn()
    state = member.state()
    wanted = [one.wants(name) for name in (*NAMES, UNNAMED)] if kind is Outlet else []
    if kind is Outlet:
        for transport.full in (True, False):
            member.topics.publish_message("kept", "to who wants it", None, None, None, None)
        one.resume_writing()
    member.check()
    for end in (one, other):
        if end.transport is not None:
            end.connection_lost(None)
    return state, wanted, transport.aborted


# ---- inputs

PREFIX = struct.Struct("!IB")
TO_INLET = [5, 5, 6, 6, 7, 8, 8, 9, 4, 10, 12]
TO_OUTLET = [1, 2, 2, 2, 3]
ODD = [None, 1, -1, 1.5, "x", "*", [], ["x"], {}, {"a": 1}, True, "\ud800", [["*"]], [None], "é" * 300]


def some_frame(rng):
    size = rng.choice([0, 1, 125, 126, 300])
    return rng.choice(
        [
            FRAME,
            frames.text(b"x" * size, mask=None),
            frames.binary(rng.randbytes(size), mask=None),
            frames.text(b"masked"),
            frames.ping(b"", mask=None),
            frames.text(b"x", fin=False, mask=None),
            frames.text(b"x", length=5, mask=None),
        ]
    )


def some_names(rng):
    names = [*NAMES, "*", "kept.*", "*.*", "x*"]
    return rng.choices([*names, *ODD], weights=[8] * len(names) + [1] * len(ODD), k=rng.randrange(4))


def some_json(rng):
    """What servers tell each other, mostly as they do."""
    if rng.random() < 0.02:
        nested = b"[" * (depth := rng.randrange(800, 1100)) + b"]" * depth
        return b'{"op":"present","id":"%b","count":1,"connections":[%b]}' % (ASKED.encode(), nested)
    what = {
        "op": rng.choice(["here", "hello", "bye", "who", "present", rng.choice(ODD)]),
        "id": rng.choice([ASKED, rng.choice(ODD)]),
        "topic": rng.choice([*NAMES, rng.choice(ODD)]),
        "count": rng.choice([1, rng.choice(ODD)]),
        "connections": rng.choice([["a"], rng.choice(ODD)]),
        "lost": rng.choice([0, 1, rng.choice(ODD)]),
    }
    for name in rng.sample(sorted(what), rng.randrange(4)):
        del what[name]
    return json.dumps(what if rng.random() < 0.95 else rng.choice(ODD)).encode()


def some_packet(rng):
    number = rng.choice([1, 2, 3, 5, 2**64 - 1, rng.randrange(2**64)])
    epoch, key = rng.choice(EPOCHS), rng.choice([None, "", "k"])
    if rng.random() < 0.3:
        return pack(CONTROL_TOPIC, epoch, number, 1.0, key, some_json(rng), None, True)
    wall, compress = rng.choice([0.0, 1.0, 2e9, 1e14]), rng.choice([None, True, False])
    return pack(rng.choice([*NAMES, "*"]), epoch, number, wall, key, some_frame(rng), compress)


def some_message(rng, kind):
    code = rng.choice((TO_INLET, TO_OUTLET)[kind])
    if code in (5, 6, 7):
        body = some_packet(rng)
    elif code == 2:
        body = json.dumps({name: some_names(rng) for name in ("add", "remove", "keep")}).encode()
        if rng.random() < 0.1:
            body = json.dumps({"add": rng.choice(ODD), "remove": [], "keep": rng.choice(ODD)}).encode()
    else:
        body = rng.choice([b"", rng.choice(NAMES).encode(), bytes(8), rng.randbytes(8)])
    if rng.random() < 0.05:
        body = bytes(harness.spoil(rng, bytearray(body), 3))
    return PREFIX.pack(len(body), code) + body


def some_input(rng):
    kind = rng.randrange(3)
    if kind == 0:
        stream = some_packet(rng)
    else:
        stream = b"".join(some_message(rng, kind - 1) for _ in range(rng.randrange(1, 7)))
    stream = harness.spoil(rng, bytearray(stream), rng.choice([0, 0, 0, 1, 3]))
    return harness.with_cuts(rng, kind, 0, bytes(stream))


logger = logging.getLogger("fuzz")
logger.addHandler(logging.NullHandler())
logger.propagate = False

if __name__ == "__main__":
    harness.main("backplane", run, some_input)
