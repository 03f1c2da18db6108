"""Two servers of one host and the link between them, with a wire that is drained by hand."""

import asyncio
import collections
import logging

from fastws._topics import Topics
from fastws.backplane.links import Inlet, Outlet
from fastws.backplane.local import LocalBackplane
from fastws.backplane.relay import Relay

HERE, THERE, GONE = "0a" * 8, "0b" * 8, "0c" * 8
LIMIT = 4000
DEFAULTS = {"policy": "close", "max_bytes": 1, "max_frames": 1, "on_join": None, "on_leave": None}


class Loop:
    """Holds what an event loop would call, until `turn`."""

    def __init__(self):
        self.ready = collections.deque()

    def create_future(self):
        return asyncio.Future(loop=self)

    def get_debug(self):
        return False

    def is_closed(self):
        return False

    def call_soon(self, call, *args, context=None):
        handle = asyncio.Handle(call, args, self)
        self.ready.append(handle)
        return handle

    def call_later(self, delay, call, *args):
        return self.call_soon(call, *args)

    def turn(self):
        for _ in range(len(self.ready)):
            handle = self.ready.popleft()
            if not handle.cancelled():
                handle._run()


class Wire:
    """A transport; what is written stays in its outbox until it is drained."""

    def __init__(self, end, owner):
        self.waiting = bytearray()
        self.most = self.high = self.low = 0
        self.end = end
        self.owner = owner
        self.closing = self.full = False

    def write(self, data):
        self.waiting += data
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) > self.high and not self.full:
            self.full = True
            self.owner.pause_writing()

    def get_write_buffer_size(self):
        return len(self.waiting)

    def set_write_buffer_limits(self, high, low):
        self.high, self.low = high, low

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def abort(self):
        raise AssertionError("a message was refused")

    def drain(self, size=None):
        """Hand over so many bytes, or all."""
        size = len(self.waiting) if size is None else size
        data = bytes(self.waiting[:size])
        del self.waiting[:size]
        self.end.data_received(data)
        if self.full and len(self.waiting) <= self.low:
            self.full = False
            self.owner.resume_writing()


class Pair:
    """Two servers, and the link over which one is sent what the other publishes."""

    def __init__(self, limit=LIMIT):
        self.loop = Loop()
        self.gaps = []
        self.a, self.b = self._server(HERE, limit), self._server(THERE, limit)
        self.link()

    def _server(self, epoch, limit):
        logger = logging.getLogger("test")
        topics = Topics(logger, epoch)
        relay = Relay(
            topics, lambda relay: LocalBackplane("/x", relay, limit), self.loop, logger, self.gaps.append
        )
        relay.engine._closing = True  # it dials nobody
        topics.attach(relay)
        relay.topics = topics
        return relay

    def link(self):
        """Connect the two, for the first time or again."""
        self.outlet, self.inlet = Outlet(self.a.engine), Inlet(self.b.engine, HERE)
        self.to_b, self.to_a = Wire(self.inlet, self.outlet), Wire(self.outlet, self.inlet)
        self.outlet.connection_made(self.to_b)
        self.inlet.connection_made(self.to_a)
        self.to_a.drain()

    def cut(self):
        for end in (self.outlet, self.inlet):
            end.connection_lost(None)

    def declare(self, *servers, name="t", **options):
        options = {"retain": 0, "history": None, "history_seconds": None, **options}
        for server in servers:
            server.topics.declare(name, {**DEFAULTS, **options})
            server.flush()
            self.to_a.drain()

    def publish(self, text, name="t", key=None):
        self.a.topics.publish_message(name, text, None, None, key, None)

    def drain(self, size=None):
        self.to_b.drain(size)
        self.to_a.drain()

    def turn(self):
        self.loop.turn()
        self.drain()

    def rest(self):
        """Go on until nothing is left to be done."""
        for _ in range(1000):
            if not self.loop.ready and not self.to_b.waiting and not self.to_a.waiting:
                return
            self.turn()
        raise AssertionError("it goes round and round")

    def numbers(self, server, name="t"):
        """Return the numbers of what the first server has published, as another has them in its history."""
        return [entry[1] for entry in server.kept(name).entries()[0] if entry[0] == HERE]

    def values(self, server, name="t"):
        return {(entry[3], entry[1]) for entry in server.kept(name).entries()[1] if entry[0] == HERE}
