"""Servers for the load generator, each in a thread of its own; loads that run until something holds."""

import asyncio
import base64
import contextlib
import hashlib
import re
import sys
import threading
import time

import pytest
import websockets
from peers import LIMIT

import fastws

if not sys.platform.startswith("linux"):
    pytest.skip("the load generator is on epoll", allow_module_level=True)

from fastws._load import Load

BINARY, TEXT = 0x82, 0x81


class Background:
    """What a server in a thread leaves to be seen."""

    port = 0
    connections = 0


@contextlib.contextmanager
def background(start):
    """Run `await start(shared)`, which returns a server with close() and wait_closed(), in a thread."""
    shared, began, ended = Background(), threading.Event(), []

    async def main():
        shared.loop, shared.end = asyncio.get_running_loop(), asyncio.Event()
        shared.loop.set_exception_handler(lambda _loop, context: ended.append(context))
        server = await start(shared)
        shared.port = server.sockets[0].getsockname()[1]
        began.set()
        await shared.end.wait()
        server.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 5)

    def run():
        try:
            asyncio.run(main())
        except BaseException as error:
            ended.append(error)
            began.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert began.wait(LIMIT)
    assert ended == []
    try:
        yield shared
    finally:
        shared.loop.call_soon_threadsafe(shared.end.set)
        thread.join(LIMIT)
    assert ended == []


class Echoing(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)


class Publishing(fastws.Handler):
    def on_open(self, ws):
        ws.subscribe("all")

    def on_message(self, ws, message):
        ws.server.publish("all", message)


def ours(handler=Echoing, host="127.0.0.1", **options):
    async def start(_shared):
        return await fastws.serve(handler, host, 0, **{"ping_interval": None, **options})

    return background(start)


def theirs(**options):
    """The websockets library: code that has nothing in common with ours."""

    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    async def start(_shared):
        return await websockets.serve(echo, "127.0.0.1", 0, **{"compression": None, **options})

    return background(start)


def accept_of(head):
    key = re.search(rb"\r\nsec-websocket-key: *(\S+)", head, re.IGNORECASE)[1]
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def response_to(head, more=b""):
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_of(head) + b"\r\n" + more + b"\r\n"
    )


def by_hand(script, respond=response_to, **options):
    """A server that answers the handshake with `respond(head)`, then does `await script(reader, writer)`."""

    async def start(shared):
        async def serve(reader, writer):
            shared.connections += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                shared.head = await reader.readuntil(b"\r\n\r\n")
                writer.write(respond(shared.head))
                await script(reader, writer)
                await writer.drain()
            writer.close()

        return await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20, **options)

    return background(start)


def silent(reader, _writer):
    """A script that says nothing."""
    return reader.read()


async def read_message(reader):
    """Return the first byte and the payload of one frame of a client."""
    first, size = await reader.readexactly(2)
    assert size & 0x80
    size &= 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    key = await reader.readexactly(4)
    payload = await reader.readexactly(size)
    mask = (key * (size // 4 + 1))[:size]
    return first, (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def frame(first, payload):
    """Return a frame of a server."""
    size = len(payload)
    if size < 126:
        return bytes([first, size]) + payload
    if size < 65536:
        return bytes([first, 126]) + size.to_bytes(2, "big") + payload
    return bytes([first, 127]) + size.to_bytes(8, "big") + payload


def loading(port, **plan):
    return Load(address="127.0.0.1", port=port, authority=f"127.0.0.1:{port}", **plan)


class Run:
    """A load, and the sum of its samples."""

    def __init__(self, load):
        self.load = load
        self.messages = self.handshakes = self.sent_bytes = self.received_bytes = self.uncompressed = 0
        self.latencies, self.handshake_latencies, self.errors = {}, {}, {}

    def step(self, seconds=0.01):
        self.load.step(seconds)
        sample = self.last = self.load.take()
        for name in ("messages", "handshakes", "sent_bytes", "received_bytes", "uncompressed"):
            setattr(self, name, getattr(self, name) + getattr(sample, name))
        for name in ("latencies", "handshake_latencies"):
            for value, count in getattr(sample, name):
                getattr(self, name)[value] = getattr(self, name).get(value, 0) + count
        for name, count in sample.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count
        return self

    def until(self, condition, limit=LIMIT):
        end = time.monotonic() + limit
        while not condition(self):
            assert time.monotonic() < end, vars(self)
            self.step()
        return self

    def percentile(self, part):
        left = part * sum(self.latencies.values())
        for value, count in sorted(self.latencies.items()):
            left -= count
            if left <= 0:
                return value / 1e9
        raise AssertionError("no latencies")


@contextlib.contextmanager
def opened(port, connections=1, **plan):
    """Open a load's connections."""
    load = loading(port, connections=connections, **plan)
    try:
        run = Run(load).until(lambda run: load.opened() == connections or run.errors)
        assert run.errors == {}
        yield run
    finally:
        load.close()


@contextlib.contextmanager
def started(port, **plan):
    with opened(port, **plan) as run:
        run.load.start()
        yield run


def error_of(port, **plan):
    """Return the name of the one error that a load on one connection ends with."""
    load = loading(port, **plan)
    try:
        run = Run(load).until(lambda run: run.errors or load.opened())
        load.start()
        run.until(lambda run: run.errors)
        assert run.step().last.connections == 0
        assert sum(run.errors.values()) == 1
        return next(iter(run.errors))
    finally:
        load.close()
