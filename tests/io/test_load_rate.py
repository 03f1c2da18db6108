"""The load generator's open loop: messages by a schedule, latency from when they were due."""

import asyncio
import itertools
import time

from loading import Publishing, by_hand, frame, opened, ours, read_message, started


def test_a_rate_is_kept():
    with ours() as server, started(server.port, connections=7, rate=1000) as run:
        began = time.monotonic()
        run.until(lambda run: run.messages >= 1000)
        assert 0.9 < time.monotonic() - began < 1.5
        assert run.errors == {}


def test_a_stall_shows_in_the_latency_of_all_that_were_due_meanwhile():
    """A server that stops for 200 ms at 1,000 messages/s delays 200 of them, not the few in flight."""
    stall = 0.2

    async def script(reader, writer):
        for number in itertools.count():
            first, payload = await read_message(reader)
            if number == 300:
                time.sleep(stall)
            writer.write(frame(first, payload))

    with by_hand(script) as server, started(server.port, connections=1, rate=1000) as run:
        run.until(lambda run: run.messages >= 1000)
        assert run.errors == {}
        assert run.percentile(0.999) > stall * 0.9
        over_half = sum(count for value, count in run.latencies.items() if value > stall / 2 * 1e9)
        assert over_half >= 95


def test_a_load_that_is_late_itself_hides_nothing():
    """Messages that were due while it did not run count from then, not from when they were sent."""
    with ours() as server, started(server.port, connections=4, rate=1000) as run:
        run.until(lambda run: run.messages >= 100)
        time.sleep(0.2)
        run.until(lambda run: run.messages >= 500)
        assert sum(count for value, count in run.latencies.items() if value > 0.1e9) >= 95
        assert max(run.latencies) > 0.15e9


def test_what_cannot_be_sent_stays_due():
    held = []

    async def script(_reader, _writer):
        held.append(asyncio.Event())
        await held[0].wait()

    with by_hand(script) as server, started(server.port, rate=2000, sizes=[(100_000, 1)], timeout=60) as run:
        run.until(lambda run: run.last.late > 500)
        assert run.errors == {}
        server.loop.call_soon_threadsafe(held[0].set)


def test_fanout_at_a_rate():
    with ours(Publishing) as server, started(server.port, mode="fanout", connections=10, rate=200) as run:
        began = time.monotonic()
        run.until(lambda run: run.messages >= 500)
        assert 0.2 < time.monotonic() - began < 2
        assert run.errors == {}


def test_latencies_are_exact_to_three_digits():
    async def script(reader, writer):
        while True:
            first, payload = await read_message(reader)
            await asyncio.sleep(0.05)
            writer.write(frame(first, payload))

    with by_hand(script) as server, opened(server.port) as run:
        began = time.monotonic_ns()
        run.load.start()
        run.until(lambda run: run.messages)
        (latency, count), *_ = run.latencies.items()
        assert count == 1
        assert 50_000_000 * 0.999 <= latency <= time.monotonic_ns() - began
