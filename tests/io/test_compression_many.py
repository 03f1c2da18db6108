"""One message for many connections, compressed in different ways or not at all; idle contexts; no memory."""

import asyncio
import contextlib
import random
import zlib

import pytest
from inflating import DEDICATED, SHARED, Inflater, answered, client_of, offering, opening
from peers import until
from test_resources import PROGRAM
from wire import (
    CLOSE,
    TEXT,
    connect,
    deaf,
    frame,
    frames,
    read_exactly,
    read_head,
    serve,
    serving,
)

import fastws
from fastws._recorder import Recorder
from fastws.transports import carrier_of

PD = "permessage-deflate"
OFFERS = [None, PD, PD, f"{PD}; server_max_window_bits=9", f"{PD}; server_no_context_takeover"]
OFFERS += [f"{PD}; server_max_window_bits=11; client_no_context_takeover", "unknown"]
RNG = random.Random(11)
# Each two have much in common, so that a wrong window shows.
PARTS = [RNG.randbytes(RNG.choice([40, 150, 900])).hex() for _ in range(12)]


class Subscriber(fastws.Handler):
    def on_open(self, ws):
        ws.subscribe("topic")


def some_message(rng):
    return "".join(rng.choices(PARTS, k=rng.randrange(1, 4))) + "é" * rng.randrange(2)


@contextlib.asynccontextmanager
async def population(deflate, offers=OFFERS, handler=Subscriber, **options):
    """Give a server, and pairs of its connection and the client at the other end."""
    async with (
        serve(handler, compression=deflate, **options) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        pairs = []
        for offer in offers:
            client = await stack.enter_async_context(client_of(server, offer))
            (connection,) = server.connections - {connection for connection, _ in pairs}
            pairs.append((connection, client))
        yield server, pairs


@pytest.mark.parametrize("deflate", [SHARED, DEDICATED], ids=["shared", "dedicated"])
def test_messages_for_all_and_for_one_come_in_order_and_whole_in_every_window(run, deflate):
    rng = random.Random(1)

    async def main():
        async with population(deflate) as (server, pairs):
            assert [connection.extensions is None for connection, _ in pairs].count(True) == 2
            expected = {connection: [] for connection, _ in pairs}
            for _ in range(150):
                message = some_message(rng)
                compress = rng.choice([None, None, None, True, False])
                match rng.randrange(4):
                    case 0:
                        assert fastws.broadcast(expected, message, compress=compress) == len(pairs)
                        to = expected
                    case 1:
                        server.publish("topic", message, compress=compress)
                        to = expected
                    case 2:
                        to = [rng.choice(list(expected))]
                        to[0].send(message, compress=compress)
                    case 3:
                        to = [rng.choice(list(expected))]
                        to[0].send([message[:50], message[50:]], compress=compress)
                for connection in to:
                    expected[connection].append(message)
                if rng.random() < 0.1:
                    await asyncio.sleep(0)
            for connection, client in pairs:
                assert [await client.recv() for _ in expected[connection]] == expected[connection]

    run(main)


def test_a_broadcast_is_compressed_once_for_each_window(run):
    async def main():
        async with population(DEDICATED) as (_, pairs):
            fastws.broadcast([connection for connection, _ in pairs], "x" * 1000)
            got = {}
            for connection, client in pairs:
                ((first, payload),) = await client.frames()
                assert first == (TEXT if connection.extensions is None else 0xC1)
                got.setdefault((connection.extensions is None, client.inflater.bits), set()).add(payload)
            assert all(len(payloads) == 1 for payloads in got.values())

    run(main)


def test_what_is_no_smaller_compressed_goes_to_all_as_it_is_and_contexts_stay(run):
    noise = RNG.randbytes(500)

    async def main():
        async with population(DEDICATED, [PD, None]) as (_, pairs):
            connection, client = pairs[0]
            connection.send(noise)
            await client.frames()
            fastws.broadcast([connection for connection, _ in pairs], noise)
            for _, other in pairs:
                assert await other.frames() == [(0x82, noise)]
            connection.send(noise)
            ((first, payload),) = await client.frames()
            assert first == 0xC2
            assert len(payload) < 50  # it refers to the first one

    run(main)


def test_retained_messages_and_history_are_right_for_whoever_comes_later(run):
    async def main():
        async with population(DEDICATED, OFFERS, lambda ws: ws.wait_closed()) as (server, pairs):
            server.topic("kept", retain=10)
            server.topic("log", history=50)
            kept = [some_message(RNG) for _ in range(8)]
            for number, message in enumerate(kept):
                server.publish("kept", message, key=str(number))
                server.publish("log", message[::-1])
            for round_ in range(2):
                for connection, client in pairs:
                    own = [some_message(RNG) for _ in range(3)]
                    connection.send(own[0])
                    assert connection.subscribe("kept").replayed == 8
                    connection.send(own[1])
                    assert connection.subscribe("log", since=3).replayed == 5
                    connection.send(own[2])
                    expected = [own[0], *kept, own[1], *(message[::-1] for message in kept[3:]), own[2]]
                    assert [await client.recv() for _ in expected] == expected, round_
                    connection.unsubscribe("kept")
                    connection.unsubscribe("log")

    run(main)


@pytest.mark.parametrize("policy", ["drop", "drop-oldest", "latest"])
@pytest.mark.parametrize("parameter", ["", "; server_max_window_bits=9", "; server_no_context_takeover"])
def test_every_frame_that_a_stuck_subscriber_gets_in_the_end_can_be_decoded(run, policy, parameter):
    # Frames are dropped and replaced between messages that refer to each other.
    rng = random.Random(policy)
    filler = rng.randbytes(50_000)

    async def main():
        loop = asyncio.get_running_loop()
        async with (
            serve(Subscriber, compression=DEDICATED, write_cap=None) as server,
            deaf(server, handshake=offering(PD + parameter)) as peer,
        ):
            server.topic("topic", policy=policy, max_frames=20, max_bytes=10**9)
            (connection,) = server.connections
            agreed = connection.extensions
            own, published, results = [], [], []
            while connection.buffered_amount == 0:
                own.append(filler)
                connection.send(filler, compress=False)
                connection.flush()
            for number in range(150):
                message = f"{number} {some_message(rng)}"
                if rng.random() < 0.3:
                    connection.send(message)
                    own.append(message)
                else:
                    results.append(server.publish("topic", message, key=rng.choice("abc")))
                    published.append(message)
            queued, lost = sum(r.queued for r in results), sum(r.dropped + r.conflated for r in results)
            assert queued > 2 < lost
            connection.send("end", compress=False)
            data = b""
            while not data.endswith(b"\x81\x03end"):
                data += await loop.sock_recv(peer, 10**6)
            *found, end = Inflater(agreed).messages(frames(data))
            assert end == "end"
            assert [message for message in found if message in own] == own
            assert {*found} - {*own} <= {*published}
            assert len(found) - len(own) == len(published) - lost

    run(main)


# ---------------------------------------------------------------- idle contexts


def test_messages_refer_to_those_before_an_idle_time_and_are_right(run):
    # The client's compressor does not know that the server has been idle.
    message = RNG.randbytes(1500)

    async def main():
        carrier = carrier_of(asyncio.get_running_loop(), None)
        async with (
            serve(on_message=lambda ws, message: ws.send(message), compression=DEDICATED) as server,
            opening(server) as client,
            client_of(server, PD) as other,
        ):
            for number in range(8):
                for sent in (message, message[::-1], b"", message):
                    await client.send(sent)
                    assert await client.recv() == sent
                for _ in range(number % 4):
                    carrier.end_context_period()
            # Ours is ended as well: the next message is sent in full.
            (connection,) = (c for c in server.connections if c.remote_address != client.local_address)
            sizes = []
            for idle in (0, 0, 1, 2, 0):
                for _ in range(idle):
                    carrier.end_context_period()
                connection.send(message)
                got = await other.frames()
                assert other.inflater.messages(got) == [message]
                sizes.append(len(got[0][1]) > 1000)
            assert sizes == [True, False, False, True, False]

    run(main)


def test_an_idle_time_amid_fragments_harms_no_message(run):
    noise = RNG.randbytes(600)

    async def main():
        carrier = carrier_of(asyncio.get_running_loop(), None)

        def idle():
            for _ in range(3):
                carrier.end_context_period()

        async def fragments():
            for _ in range(3):
                idle()
                yield noise
            idle()

        seen = []

        async def handler(ws):
            await ws.send(fragments())
            await ws.send(noise)
            seen.extend([await ws.recv(), await ws.recv()])

        async def slowly():
            for _ in range(3):
                yield noise
                idle()

        async with serve(handler, compression=DEDICATED) as server, opening(server) as client:
            assert await client.recv() == noise * 3
            assert await client.recv() == noise
            await client.send(slowly())
            await client.send(noise)
            await until(lambda: len(seen) == 2)
            assert seen == [noise * 3, noise]

    run(main)


MEMORY = """
import ctypes
libc = ctypes.CDLL(None)

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc.mallinfo2.restype = Info

def on_message(ws, message):
    if message == "idle":
        # Three times: a period that is under way, one without use, and one for good measure.
        from fastws._reactor import reactor_of
        reactor = reactor_of(asyncio.get_running_loop())
        for _ in range(3):
            reactor.end_context_period()
        ws.send("idle")
    elif message == "used":
        info = libc.mallinfo2()
        ws.send(str(info.uordblks + info.hblkhd))
    else:
        ws.send(message)

options.update(on_message=on_message, compression=fastws.Deflate(shared=False, min_size=0, memory_level=8))
"""


def read_blocking(peer):
    first, size = read_exactly(peer, 2)
    return first, read_exactly(peer, int.from_bytes(read_exactly(peer, 2), "big") if size == 126 else size)


def ask(peer, text):
    peer.sendall(frame(TEXT, text))
    return read_blocking(peer)[1]


def test_idle_contexts_give_their_memory_back():
    count = 200
    noise = RNG.randbytes(1000)
    with serving(PROGRAM.format(MEMORY, "asyncio")) as process, contextlib.ExitStack() as stack:
        asker = stack.enter_context(connect(process))
        read_head(asker)
        ask(asker, b"used")
        empty = int(ask(asker, b"used"))
        peers = []
        for _ in range(count):
            peer = stack.enter_context(connect(process, handshake=offering(PD)))
            peers.append((peer, zlib.compressobj(wbits=-15), Inflater(answered(read_head(peer)))))
        # Before the first message there is no context.
        assert int(ask(asker, b"used")) - empty < count * 10_000

        def echo():
            sizes = set()
            for peer, deflater, inflater in peers:
                payload = deflater.compress(noise) + deflater.flush(zlib.Z_SYNC_FLUSH)
                peer.sendall(frame(0xC2, payload[:-4]))
                first, payload = read_blocking(peer)
                assert inflater.message(first, payload) == noise
                sizes.add(len(payload))
            return max(sizes)

        assert echo() > 1000
        active = int(ask(asker, b"used")) - empty
        assert active > count * 100_000, "or there is another malloc, as the sanitizers have"
        assert echo() < 100
        ask(asker, b"idle")
        # What is left is what the peer may refer to.
        assert int(ask(asker, b"used")) - empty < count * 20_000
        assert echo() > 1000
        assert echo() < 100
        for peer, *_ in peers:
            peer.sendall(frame(CLOSE, b"\x03\xe8"))
            while peer.recv(4096):
                pass
        ask(asker, b"used")
        assert int(ask(asker, b"used")) - empty < count * 10_000


@pytest.mark.parametrize("count", [900, 1100])
def test_contexts_that_cannot_end_do_not_keep_those_behind_them(run, count):
    # An inflater behind a final block stays; a thousand of them must not be all that is looked at.
    agreed = fastws.Deflate(shared=False, min_size=0).answer([(PD, [])])
    noise = RNG.randbytes(1000)
    final = frame(0xC2, b"\x03\x00")

    async def main():
        carrier = carrier_of(asyncio.get_running_loop(), None)
        one = Recorder(deflate=agreed)
        one.send(noise)
        assert len(one.data_to_send()) > 1000
        stuck = [Recorder(deflate=agreed) for _ in range(count)]
        for recorder in stuck:
            recorder.receive_data(final)
            assert recorder.events == [("message", b"")]
        for _ in range(8):
            carrier.end_context_period()
        stuck.clear()
        one.send(noise)
        assert len(one.data_to_send()) > 1000, "its compressor still refers to the message before"

    run(main)


# ---------------------------------------------------------------- Z15


LITTLE_MEMORY = """
import resource
hog = []

def prepare(server):
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + 64 * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def on_message(ws, message):
    if message == "take all":
        size = 2 ** 24
        while size >= 4096:
            try:
                hog.append(bytearray(size))
            except MemoryError:
                size //= 2
    elif message == "give back":
        hog.clear()
    ws.send(message if len(message) < 1000 else "much")

options.update(max_size=None, compression=fastws.Deflate(shared=False), on_message=on_message)
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def little(request):
    return lambda: serving(PROGRAM.format(LITTLE_MEMORY, request.param))


def ends_with_1011(peer):
    first, payload = read_blocking(peer)
    return (first, payload[:2]) == (CLOSE, b"\x03\xf3") and peer.recv(1) == b""


def test_z15_no_memory_for_what_a_message_inflates_to_costs_its_connection_1011(little):
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflater.compress(bytes(100 * 2**20)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    with little() as process, connect(process) as good:
        read_head(good)
        for _ in range(2):
            with connect(process, handshake=offering(PD)) as bad:
                read_head(bad)
                bad.sendall(frame(0xC2, bomb[:-4]))
                assert ends_with_1011(bad)
            assert ask(good, b"hi") == b"hi"


def test_z15_no_memory_for_a_context_costs_its_connection_1011(little):
    hello = frame(0xC1, b"\xf2\x48\xcd\xc9\xc9\x07\x00")
    with (
        little() as process,
        connect(process) as good,
        connect(process, handshake=offering(PD)) as bad,
        connect(process, handshake=offering(PD)) as later,
    ):
        for peer in (good, bad, later):
            read_head(peer)
        assert ask(good, b"take all") == b"take all"
        bad.sendall(hello)
        assert ends_with_1011(bad)
        assert ask(good, b"give back") == b"give back"
        later.sendall(hello * 2)
        assert [read_blocking(later) for _ in range(2)] == [(TEXT, b"Hello")] * 2
