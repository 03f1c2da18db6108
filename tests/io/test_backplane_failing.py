"""Backplanes whose engine fails: it stops, starts, pauses, and connections to it are cut.

Nothing comes twice or out of order, and what is lost is counted.
"""

import asyncio
import contextlib
import logging
import re

import pytest
import websockets
from engines import Engine, needs
from joining import Subscriber, client, joined, settled
from peers import port_of, until
from traffic import numbers_until, publishing

import fastws
from fastws.backplane import remote
from fastws.backplane.remote import Remote

pytestmark = pytest.mark.parametrize("run", ["uvloop"], indirect=True)


@pytest.fixture(params=["redis", "nats"])
def engine(request, tmp_path, monkeypatch):
    needs(request.param)
    monkeypatch.setattr(Remote, "silence", 1.0)
    running = Engine(request.param, tmp_path)
    running.start()
    yield running
    running.stop()


def accounted(server):
    """Return how many messages a server knows the fate of, once its outbox is empty."""
    stats = server.backplane.stats
    return stats.sent + stats.in_doubt + stats.dropped


async def resumed(a, b, topic, websocket, number):
    """Publish until it reaches a client of `b` again; return all that came and the last number."""
    # What is published while the outbox is full of what was published before is dropped.
    await until(lambda: accounted(a) == number)
    got = []
    reading = asyncio.ensure_future(websocket.recv())
    while True:
        number += 1
        a.publish(topic, str(number))
        await asyncio.wait([reading], timeout=0.05)
        if reading.done():
            got.append(int(reading.result()))
            break
    got += await numbers_until(websocket, number) if got[-1] != number else []
    assert got == sorted(set(got))
    return got, number


def test_while_the_engine_is_down_local_delivery_goes_on_and_every_loss_is_counted(run, engine):
    gaps = []

    async def main():
        options = {"on_gap": lambda _, topics: gaps.append(topics)}
        async with (
            joined(engine.url, **options) as (a, b),
            client(a, "x") as here,
            client(b, "x") as there,
        ):
            a.backplane.engine.limit = 20_000
            await publishing(a, "x", 1, 1000)
            assert await numbers_until(there, 1000) == list(range(1, 1001))
            await numbers_until(here, 1000)

            engine.stop()
            await until(lambda: not a.backplane.engine.up and not b.backplane.engine.up)
            for number in range(1001, 2001):
                a.publish("x", str(number))
            assert await numbers_until(here, 2000) == list(range(1001, 2001))
            stats = a.backplane.stats
            # About 40 bytes a packet: the outbox holds half of them.
            assert 0 < stats.dropped < 1000
            await until(lambda: None in gaps)

            gaps.clear()
            engine.start()
            await until(lambda: a.backplane.engine.up and b.backplane.engine.up)
            assert (stats.reconnects, b.backplane.stats.reconnects) == (1, 1)
            await until(lambda: None in gaps)
            got, last = await resumed(a, b, "x", there, 2000)
            # What was not delivered is missing for b, and a has counted no less as lost.
            missing = b._topics.find("x").missing
            assert missing == (last - 1000) - len(got)
            assert missing == b.backplane.stats.missing
            assert missing >= stats.dropped
            await until(lambda: accounted(a) == last)
            assert b.backplane.stats.duplicates == 0

    run(main)


def test_the_loss_of_an_engine_is_told_and_logged_and_trying_begins_anew(run, engine, caplog, monkeypatch):
    gaps = []
    delays = []

    class Delays(remote.Delays):
        def next(self):
            delays.append(self._next)
            return super().next()

    monkeypatch.setattr(remote, "Delays", Delays)
    monkeypatch.setattr(remote, "STEADY", 0.0)
    caplog.set_level(logging.INFO)

    async def main():
        async with joined(engine.url, 1, on_gap=lambda _, topics: gaps.append(topics)) as (a,):
            for _ in range(2):
                gaps.clear()
                delays.clear()
                caplog.clear()
                engine.stop()
                await until(lambda: None in gaps)
                assert f"{a.backplane.engine.engine} lost" in caplog.text
                assert delays[0] == 0.05
                engine.start()
                await until(lambda: a.backplane.engine.up)
                assert f"connected to {a.backplane.engine.engine}" in caplog.text

    run(main)


def test_a_short_pause_of_the_engine_loses_nothing(run, engine):
    async def main():
        async with joined(engine.url) as (a, b), client(b, "x") as there:
            engine.pause()
            try:
                await publishing(a, "x", 1, 500)
            finally:
                engine.resume()
            assert await numbers_until(there, 500) == list(range(1, 501))
            assert a.backplane.stats.reconnects == a.backplane.stats.dropped == 0

    run(main)


def test_after_a_long_pause_of_the_engine_nothing_comes_twice_or_out_of_order(run, engine):
    async def main():
        async with joined(engine.url) as (a, b), client(b, "x") as there:
            await publishing(a, "x", 1, 100)
            assert await numbers_until(there, 100) == list(range(1, 101))
            engine.pause()
            try:
                await publishing(a, "x", 101, 500)
                await until(lambda: not a.backplane.engine.up and not b.backplane.engine.up)
            finally:
                engine.resume()
            await until(lambda: a.backplane.engine.up and b.backplane.engine.up)
            await b.backplane.settle()
            a.publish("x", "501")
            got = await numbers_until(there, 501)
            topic = b._topics.find("x")
            assert len(got) + topic.missing == 401
            await until(lambda: accounted(a) == 501)
            assert a.backplane.stats.reconnects >= 1

    run(main)


def test_what_a_topic_with_history_missed_is_recovered_in_order(run, engine):
    async def main():
        async with joined(engine.url) as (a, b):
            for server in (a, b):
                server.topic("h", history=10_000)
                await server.backplane.settle()
            async with client(b, "h") as there:
                await publishing(a, "h", 1, 100)
                await numbers_until(there, 100)
                # Only b loses its connection, and what comes meanwhile.
                await cut(b)
                for number in range(101, 301):
                    a.publish("h", str(number))
                await until(lambda: a.backplane.stats.sent >= 300)
                assert await numbers_until(there, 300) == list(range(101, 301))
                assert b.backplane.stats.missing == 0
                assert b.backplane.stats.reconnects == 1
                connection = next(iter(b.connections))
                connection.unsubscribe("h")
                assert tuple(connection.subscribe("h", since={a.epoch: 250}))[1:] == (50, True)
                assert await numbers_until(there, 300) == list(range(251, 301))

    run(main)


def test_connections_that_are_cut_during_traffic_cost_a_topic_with_history_nothing(run, engine):
    count = 3000

    async def main():
        async with joined(engine.url) as (a, b):
            for server in (a, b):
                server.topic("h.*", history=10_000)
                await server.backplane.settle()
            async with client(b, "h.x,h.*") as there:
                reading = asyncio.ensure_future(numbers_until(there, count))
                for begin in range(1, count, 1000):
                    await publishing(a, "h.x", begin, begin + 499)
                    cutting = asyncio.ensure_future(cut(b))
                    await publishing(a, "h.x", begin + 500, begin + 999)
                    await cutting
                    await until(lambda: b.backplane.engine.up)
                assert await reading == list(range(1, count + 1))
                assert b.backplane.stats.reconnects == 3
                assert b.backplane.stats.missing == 0
                history = b._topics.find("h.x").kept.entries()[0]
                assert [entry[1] for entry in history] == list(range(1, count + 1))

    run(main)


async def cut(server):
    """Cut a server's connection to its engine."""
    engine = server.backplane.engine
    if engine.engine == "Redis":
        await engine._listening.disconnect(nowait=True)
    else:
        engine._client._transport.close()
    await until(lambda: not engine.up)


def test_a_server_starts_without_its_engine_and_joins_when_it_is_there(run, engine, monkeypatch, caplog):
    monkeypatch.setattr("fastws.backplane.remote.START", 0.5)
    engine.stop()

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            a, b = [
                await stack.enter_async_context(
                    fastws.serve(Subscriber, "127.0.0.1", 0, backplane=engine.url, ping_interval=None)
                )
                for _ in range(2)
            ]
            async with websockets.connect(f"ws://127.0.0.1:{port_of(a)}/x", compression=None) as here:
                await until(lambda: a.connections)
                a.publish("x", "1")
                assert await here.recv() == "1"
                with pytest.raises(ConnectionError, match="not connected"):
                    await a.backplane.settle()
                # Why, and where.
                assert "111" in caplog.text and "127.0.0.1" in caplog.text
                engine.start()
                await until(lambda: a.backplane.engine.up and b.backplane.engine.up)
                await settled(a, b)
                b.publish("x", "2")
                assert await here.recv() == "2"

    run(main)


def test_what_the_engine_cannot_keep_is_delivered(run, engine, caplog):
    if engine.name == "nats":
        engine.stop()
        engine.start("--jetstream=false")

    async def main():
        async with joined(engine.url) as (a, b):
            for server in (a, b):
                server.topic("h", history=10)
                await server.backplane.settle()
            if engine.name == "redis":
                redis = a.backplane.engine
                async with redis._connection() as connection:
                    await redis._ask(connection, ("CONFIG", "SET", "maxmemory", "1"))
            async with client(b, "h") as one:
                a.publish("h", "1")
                assert await one.recv() == "1"
                await until(lambda: accounted(a) == a.backplane.stats.sent == 1)
                assert a.backplane.engine.up

    run(main)
    assert re.search("does not keep a message: .*OOM|NATS keeps nothing of h", caplog.text)


@pytest.mark.parametrize("name", ["x" * 5000, "\ud800"])
def test_a_name_that_the_engine_cannot_be_told_of_costs_no_other_topic(run, engine, name, caplog):
    async def main():
        async with joined(engine.url) as (a, b), client(b, "x") as one:
            (connection,) = b.connections
            connection.subscribe(name)
            connection.subscribe("y")
            await b.backplane.settle()
            assert b.backplane.engine.up
            a.publish(name, "1")
            a.publish("y", "2")
            while await one.recv() != "2":
                pass
            b.publish(name, "3")
            assert await one.recv() == "3"
            assert (a.backplane.stats.reconnects, b.backplane.stats.reconnects) == (0, 0)

    run(main)
