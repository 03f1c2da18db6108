"""Topics on real sockets: what a subscriber that does not read gets, and what it costs the others."""

import asyncio
import contextlib

from peers import raw, until
from subscribing import counts
from wire import CLOSE, TEXT, deaf, frames, read_frame

import fastws


async def fill(server, name):
    """Publish until a deaf subscriber of `name` has a message waiting."""
    (connection,) = server.presence(name)
    while connection.buffered_amount == 0:
        server.publish(name, "#" * 50_000)
        await asyncio.sleep(0)
    return connection


async def read_all(loop, peer):
    got = bytearray()
    while not got.endswith(b"END"):
        got += await loop.sock_recv(peer, 1 << 20)
    return [payload.decode() for first, payload in frames(bytes(got)) if not payload.startswith(b"#")]


@contextlib.asynccontextmanager
async def slow(policy, **options):
    """Give a server with a topic, and a subscriber that does not read and has something waiting."""
    async with fastws.serve(
        on_open=lambda ws: ws.subscribe("a") and None, host="127.0.0.1", port=0, ping_interval=None
    ) as server:
        topic = server.topic("a", policy=policy, **options)
        async with deaf(server) as peer:
            yield server, topic, await fill(server, "a"), peer


def test_latest_puts_the_newest_of_a_key_in_the_place_of_the_older(run):
    async def main():
        async with slow("latest") as (server, topic, connection, peer):
            for i, key in enumerate("xyxzxy"):
                server.publish("a", f"{key}{i}", key=key)
            assert counts(server.publish("a", "END"))[:2] == (1, 1)
            assert topic.conflated == 3
            assert topic.missed == {connection: 3}
            assert await read_all(asyncio.get_running_loop(), peer) == ["x4", "y5", "z3", "END"]
            await until(lambda: connection.buffered_amount == 0)

    run(main)


def test_latest_bounds_what_waits_by_the_number_of_keys(run):
    async def main():
        async with slow("latest") as (server, _, connection, peer):
            before = connection.buffered_amount
            for i in range(20_000):
                server.publish("a", f"{i:08}", key=str(i % 10))
            assert connection.buffered_amount == before + 10 * (2 + 8)
            server.publish("a", "END")
            expected = [f"{i:08}" for i in range(19_990, 20_000)]
            assert await read_all(asyncio.get_running_loop(), peer) == [*expected, "END"]

    run(main)


def test_drop_keeps_the_oldest_and_drop_oldest_the_newest(run):
    async def main():
        for policy in "drop", "drop-oldest":
            async with slow(policy, max_frames=4) as (server, topic, connection, peer):
                results = [server.publish("a", str(i)) for i in range(10)]
                assert sum(r.dropped for r in results) == topic.dropped
                assert topic.missed == {connection: topic.dropped}
                fastws.broadcast(server.connections, "END")
                *got, end = await read_all(asyncio.get_running_loop(), peer)
                assert end == "END"
                # What filled the socket may be one of the four, or wait in a transport; and as the oldest it
                # is dropped, of which nothing has left.
                kept = len(got)
                assert kept in (3, 4)
                assert topic.dropped - (10 - kept) in ((0,) if policy == "drop" else (0, 1))
                assert got == [str(i) for i in (range(kept) if policy == "drop" else range(10 - kept, 10))]

    run(main)


def test_close_ends_a_subscriber_over_the_limit_with_1013_and_a_record(run, caplog):
    async def main():
        async with slow("close", max_bytes=200_000) as (server, topic, connection, peer):
            while not topic.closed:
                result = server.publish("a", "x" * 10_000)
                assert connection.buffered_amount < 250_000
            assert counts(result) == (1, 0, 0, 0, 1)
            assert counts(server.publish("a", "later")) == (0, 0, 0, 0, 0)
            loop = asyncio.get_running_loop()
            got = bytearray()
            while not got.endswith(b"\x03\xf5too slow"):
                got += await loop.sock_recv(peer, 1 << 20)
            assert frames(bytes(got))[-1] == (CLOSE, b"\x03\xf5too slow")

    run(main)
    assert [r for r in caplog.records if "too slow for topic a" in r.getMessage()]


def test_r5_r6_one_stuck_subscriber_costs_the_others_nothing(run):
    async def main():
        async with (
            slow("drop", max_bytes=100_000) as (server, topic, connection, _),
            raw(server) as (reader, _),
        ):
            await reader.readuntil(b"\r\n\r\n")
            for i in range(2000):
                server.publish("a", f"{i:0200}")
                if i % 100 == 99:
                    await asyncio.sleep(0)
            for i in range(2000):
                assert await read_frame(reader) == (TEXT, b"%0200d" % i)
            assert connection.buffered_amount <= 100_000 + 64 * 1024  # a transport's
            assert topic.dropped > 1000

    run(main)


def test_a_replay_that_a_stuck_subscriber_does_not_get_is_not_called_complete(run):
    async def main():
        async with slow("drop") as (server, _, connection, _):
            kept = server.topic("kept", policy="drop", history=300, max_frames=50)
            for number in range(300):
                server.publish("kept", str(number))
            sequence, replayed, complete = connection.subscribe("kept", since=0)
            assert (sequence, complete) == (300, False)
            assert 0 < replayed <= 50
            assert (kept.queued, kept.dropped) == (replayed, 300 - replayed)

    run(main)


def test_a_replay_that_is_too_much_for_a_stuck_subscriber_closes_it_once(run, caplog):
    async def main():
        async with slow("drop") as (server, _, connection, _):
            kept = server.topic("kept", policy="close", history=300, max_frames=50)
            for number in range(300):
                server.publish("kept", str(number))
            assert not connection.subscribe("kept", since=0).complete
            assert connection.state is fastws.State.CLOSING
            assert kept.closed == 1

    run(main)
    assert sum("too slow" in record.getMessage() for record in caplog.records) == 1
