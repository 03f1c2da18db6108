"""
Invariant: whatever peers send, however their connections end and whatever handlers do meanwhile, a
well-behaved client of the same server gets its echoes, on_close follows on_open exactly once, handlers
see no error but their own, nothing reaches the loop's exception handler, and when all is over there are
as many descriptors and tasks as before, and no connection is kept alive.

Runs for FUZZ_SECONDS (30), in rounds, on asyncio's loop and uvloop in turn. A round that fails tells its
seed; give that as an argument to run it again. What clients send and handlers do follows from the seed;
when they get to it, not quite.
"""

import asyncio
import collections
import contextlib
import gc
import itertools
import logging
import os
import random
import socket
import struct
import sys
import time
import warnings
import weakref
from unittest import mock

import harness
import uvloop
import websockets

import fastws
from fastws import log

harness.use("core", "fuzz")

import frames  # noqa: E402
import wild_handlers  # noqa: E402
from fuzz_protocol import some_frame, some_input  # noqa: E402

ROUND = 5  # seconds
GRACE = 10  # seconds for what should take a moment
CLIENTS = 12
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
# A reset instead of the closing handshake of TCP.
RESET = struct.pack("ii", 1, 0)
REQUEST = (
    "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Tally:
    """What a round has seen."""

    def __init__(self, seed):
        self.seed = seed
        self.done = collections.Counter()
        self.alive = weakref.WeakSet()
        self.wrong = []

    def judge(self, error):
        """An error came to where only handlers' own should."""
        if not isinstance(error, (wild_handlers.Ours, fastws.ConnectionClosed)):
            self.wrong.append(f"a handler got {error!r}")

    def rng_of(self, who):
        return random.Random(f"{self.seed} {who}")


class Ear(logging.Handler):
    """Silences the log, and hears what no handler of ours did."""

    def __init__(self, tally):
        super().__init__(logging.WARNING)
        self.tally = tally

    def emit(self, record):
        if record.exc_info:
            self.tally.judge(record.exc_info[1])
        elif "turned away" not in record.msg:
            self.tally.wrong.append(f"the log says {record.getMessage()}")


async def until(condition, what):
    """Wait for what should take a moment."""
    end = time.monotonic() + GRACE
    while not condition():
        assert time.monotonic() < end, f"not within {GRACE} s: {what}"
        await asyncio.sleep(0.005)


# ---- clients


def some_stream(rng):
    kind = rng.random()
    if kind < 0.1:
        return rng.randbytes(rng.choice([1, 10, 1000]))
    if kind < 0.4:
        data = some_input(rng)
        return data[3 + 2 * data[2] :]
    if kind < 0.5:
        return b"".join(some_frame(rng) for _ in range(rng.randrange(30)))
    stream = b""
    for _ in range(rng.randrange(1, 40)):
        payload = rng.choice(["", "text", "é€😀" * rng.choice([1, 50, 6000])]).encode()
        opcode = rng.choice([frames.TEXT, frames.BINARY])
        edges = [0, *sorted(rng.randrange(len(payload) + 1) for _ in range(rng.choice([0, 0, 3]))), None]
        pieces = [payload[a:b] for a, b in itertools.pairwise(edges)]
        stream += frames.fragmented(opcode, pieces, mask=rng.randbytes(4))
        if rng.random() < 0.2:
            stream += frames.frame(rng.choice([frames.PING, frames.PONG]), b"ping")
    return stream + (frames.close(1000) if rng.random() < 0.3 else b"")


def some_request(rng, path):
    """Return a request, and whether it is a good one."""
    request = REQUEST.format(path).encode()
    kind = rng.random()
    if kind < 0.03:
        return rng.randbytes(rng.randrange(1, 300)), False
    if kind < 0.06:
        return request[: rng.randrange(len(request))], False
    if kind < 0.1:
        spoilt = bytearray(request)
        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        return bytes(spoilt), False
    return request, True


async def passes(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def answered(sock):
    """Wait for the answer to the opening handshake, or the end, and tell which."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            return sock.recv(4096).startswith(b"HTTP/1.1 101 ")
        await asyncio.sleep(0)
    return False


async def send_in_pieces(sock, rng, data):
    """Send as much as is taken without much patience, and read at times."""
    view = memoryview(data)
    size = rng.choice([1, 3, 50, 1000, 10**6, 10**6]) if len(data) < 2000 else rng.choice([5000, 10**6])
    reads = rng.random() < 0.7
    refused = 0
    while view and refused < 40:
        try:
            view = view[sock.send(view[: rng.randrange(1, size + 1)]) :]
        except BlockingIOError:
            refused += 1
        if reads:
            with contextlib.suppress(BlockingIOError):
                sock.recv(1 << 20)
        await passes(rng.choice([0, 0, 1, 1, 2]))


async def end(sock, rng):
    kind = rng.randrange(5)
    if kind == 0:
        await asyncio.sleep(rng.choice([0.01, 0.1]))
    elif kind == 1:
        sock.shutdown(socket.SHUT_WR)
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                if not sock.recv(1 << 20):
                    break
            await passes(1)
    elif kind == 2:
        await passes(rng.randrange(5))
    if kind > 2 or rng.random() < 0.5:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def hostile(number, port, tally):
    """Connect once, say anything, and go."""
    rng = tally.rng_of(f"client {number}")
    with socket.socket() as sock, contextlib.suppress(OSError):
        if rng.random() < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # From many addresses, so that those in TIME_WAIT do not use up one's ports.
        sock.bind((f"127.0.0.{rng.randrange(2, 250)}", 0))
        sock.settimeout(GRACE)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        tally.done["connections"] += 1
        request, good = some_request(rng, f"/{number}")
        if rng.random() < 0.3:
            await send_in_pieces(sock, rng, request + some_stream(rng))
        else:
            await send_in_pieces(sock, rng, request)
            if good and await answered(sock):
                tally.done["handshakes"] += 1
                await send_in_pieces(sock, rng, some_stream(rng))
        await end(sock, rng)


async def well_behaved(port, which, tally, over):
    """Echo for as long as the others rage, and connect anew when they have gone."""
    rng = tally.rng_of(f"good client of {which}")
    url = f"ws://127.0.0.1:{port}{wild_handlers.GOOD}"
    for _ in range(2):
        async with websockets.connect(url, compression=None, ping_interval=None) as client:
            while True:
                size = rng.choice([0, 10, 200, 20_000])
                message = rng.choice(["x" * size, rng.randbytes(size), "é€😀" * (size // 9)])
                await client.send(message)
                try:
                    got = await asyncio.wait_for(client.recv(), GRACE)
                except Exception as error:
                    raise AssertionError(
                        f"the good client of {which} has no echo of {size} bytes: {error!r}"
                    ) from error
                assert got == message, f"the good client of {which} got {got[:50]!r} for {message[:50]!r}"
                tally.done["echoes"] += 1
                if over.is_set():
                    break


# ---- a round


def some_options(rng):
    return {
        "max_size": rng.choice([30_000, 2**20]),
        "max_queue": rng.choice([1, 16, (4, 0)]),
        "write_limit": rng.choice([1000, 64 * 1024]),
        "write_cap": rng.choice([200_000, 2**22]),
        "max_connections": rng.choice([CLIENTS // 3, None, None]),
        "open_timeout": 1,  # the good client has as long
        "close_timeout": 0.2,
        "ping_interval": 0.05,
        "ping_timeout": GRACE,
    }


async def storm(seconds, tally):
    rng = tally.rng_of("storm")
    before = asyncio.all_tasks()
    logger = logging.Logger("fuzz")
    logger.addHandler(Ear(tally))
    over = asyncio.Event()
    numbers = iter(range(10**9))

    async def clients(ports):
        until_then = time.monotonic() + seconds
        while time.monotonic() < until_then and not tally.wrong:
            await hostile(next(numbers), rng.choice(ports), tally)

    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                fastws.serve(handler, "127.0.0.1", 0, logger=logger, **some_options(rng))
            )
            for handler in wild_handlers.handlers(tally)
        ]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        good = [
            asyncio.ensure_future(well_behaved(port, which, tally, over))
            for which, port in zip(("callbacks", "a coroutine"), ports, strict=True)
        ]
        await until(
            lambda: all(server.connections for server in servers) or any(map(asyncio.Future.done, good)),
            "the good clients connect",
        )
        await asyncio.gather(*(clients(ports) for _ in range(CLIENTS)))
        with contextlib.suppress(AssertionError):
            await until(lambda: all(len(s.connections) <= 1 for s in servers), "connections end")
        left = [one for server in servers for one in server.connections]
        assert len(left) <= len(servers), f"connections stay though their peers have gone: {left}"
        over.set()
        await asyncio.wait_for(asyncio.gather(*good), GRACE)
        del left
    await until(lambda: asyncio.all_tasks() == before, "every task ends")


def descriptors():
    return sorted(os.listdir("/proc/self/fd"), key=int)


def warm_up(new_loop):
    """Let what a kind of loop opens once and keeps, its thread pool's descriptors say, be open already."""
    loop = new_loop()
    loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 1))
    loop.close()


def run(seed, seconds, new_loop):
    """Run one round. Returns: its Tally. Raises: AssertionError."""
    tally = Tally(seed)
    wrong = tally.wrong
    warm_up(new_loop)
    before = descriptors()
    loop = new_loop()
    loop.set_exception_handler(lambda _, context: wrong.append(f"the loop got {context}"))
    with (
        mock.patch.object(log, "BURST", 10**9),  # no record is left out
        mock.patch.object(
            sys,
            "unraisablehook",
            lambda got: wrong.append(f"unraisable in {got.object!r}: {got.exc_value!r}"),
        ),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        try:
            loop.run_until_complete(asyncio.wait_for(storm(seconds, tally), seconds + 4 * GRACE))
            loop.run_until_complete(loop.shutdown_asyncgens())
            gc.collect()  # what was not retrieved is told now
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()
        gc.collect()
    done = tally.done
    assert not wrong, f"{len(wrong)} wrong, first {wrong[:3]}"
    assert done["opened"] == done["closed"], f"{done['opened']} on_open, {done['closed']} on_close"
    assert not tally.alive, f"kept alive: {list(tally.alive)[:3]}"
    assert descriptors() == before, f"descriptors {descriptors()}, before {before}"
    return tally


def check(seed, seconds, name):
    """Run one round, and tell its seed when it fails. Returns: its Tally."""
    try:
        return run(seed, seconds, LOOPS[name])
    except BaseException as error:
        print(f"failed on {name}; run again with: {__file__} {seed} ({error})", file=sys.stderr, flush=True)
        raise


def main():
    seeds = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    total = collections.Counter()
    over = time.monotonic() + harness.SECONDS
    while (left := over - time.monotonic()) > 0:
        seed = seeds[0] if seeds else random.randrange(2**32)
        for name in LOOPS:
            total.update(check(seed, min(ROUND, left / 2), name).done)
    print(", ".join(f"{count} {what}" for what, count in total.most_common()))


if __name__ == "__main__":
    main()
