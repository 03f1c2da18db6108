"""TLS to peers that do not read: what is encrypted, what waits, and what may still overtake it."""

import asyncio

import pytest
from certificates import by_hand, server_context
from peers import Echo, masked, until
from wire import PING, fill, serve

import fastws

pytestmark = pytest.mark.without_tls("it is there already")


def secure(handler=None, **options):
    return serve(handler, **{"ssl": server_context(), **options})


def test_a_peer_that_does_not_read_holds_its_sender_and_drains(run):
    drained = []

    async def main():
        sent = asyncio.get_running_loop().create_future()

        async def on_open(ws):
            for _ in range(40):
                await ws.send(b"x" * 100_000)
            sent.set_result(ws)

        async with (
            secure(on_open=on_open, on_drain=drained.append) as server,
            by_hand(server, room=4096) as client,
        ):
            await client.open()
            await until(lambda: any(c.buffered_amount > 64 * 1024 for c in server.connections))
            assert not sent.done()
            data = await client.read(40 * 100_010)
            assert data == (b"\x82\x7f" + (100_000).to_bytes(8, "big") + b"x" * 100_000) * 40
            await sent
        assert drained

    run(main)


def test_a_peer_that_never_reads_is_dropped_at_the_cap(run):
    closed = []

    async def main():
        async with (
            secure(on_close=lambda ws, code, reason: closed.append(code), write_cap=500_000) as server,
            by_hand(server, room=4096) as client,
        ):
            await client.open()
            [ws] = server.connections
            with pytest.raises(fastws.ConnectionClosed):
                while True:
                    ws.send(b"x" * 100_000)
            await until(lambda: closed)
        assert closed == [1006]

    run(main)


def test_policies_of_topics_hold_for_what_is_not_encrypted_yet(run):
    async def main():
        async with (
            secure(on_open=lambda ws: ws.subscribe("t")) as server,
            by_hand(server, room=4096) as client,
        ):
            server.topic("t", policy="latest")
            await client.open()
            [ws] = server.connections
            count = await fill(ws)
            waiting = ws.buffered_amount
            for i in range(100):
                server.publish("t", f"{i:03}", key="k")
            # A ping goes ahead of it.
            ws.ping(b"p")
            assert 0 < ws.buffered_amount - waiting < 100
            size = count * 100_010 + 3 + 5
            data = await client.read(size)
            assert data.endswith(b"\x81\x03099")
            assert b"\x89\x01p" in data
            assert data.count(b"\x81\x03") == 1

    run(main)


def test_pings_are_answered_while_ciphertext_waits(run):
    async def main():
        async with secure(Echo) as server, by_hand(server, room=4096) as client:
            await client.open()
            [ws] = server.connections
            # Until ciphertext waits and nothing else: an outbox that is empty, and still is one.
            while ws.buffered_amount == 0:
                ws.send(b"x" * 50_000)
                ws.flush()
            for i in range(3):
                await client.send(masked(PING, b"%d" % i))
            await until(lambda: ws.buffered_amount)
            data = b""
            while b"\x8a\x012" not in data:
                data += await client.until(client.tls.read, 65536)

    run(main)
