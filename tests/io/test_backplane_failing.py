"""Backplanes that fail: engines that stop, start and pause, servers that are killed or stop.

Nothing comes twice or out of order, and what is lost is counted.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest
import websockets
from engines import Engine, needs
from joining import Subscriber, client, joined, settled
from peers import LIMIT, port_of, until

import fastws
from fastws.backplane import links, local, remote
from fastws.backplane.remote import Remote

pytestmark = pytest.mark.parametrize("run", ["uvloop"], indirect=True)

NODE = pathlib.Path(__file__).with_name("backplane_node.py")


@pytest.fixture(params=["redis", "nats"])
def engine(request, tmp_path, monkeypatch):
    needs(request.param)
    monkeypatch.setattr(Remote, "silence", 1.0)
    running = Engine(request.param, tmp_path)
    running.start()
    yield running
    running.stop()


async def publishing(server, topic, first, last):
    """Publish the numbers from `first` to `last` over some time."""
    for number in range(first, last + 1):
        server.publish(topic, str(number))
        if number % 20 == 0:
            await asyncio.sleep(0.001)


async def numbers_until(websocket, last):
    """Return the numbers that come until `last` has come: they rise, each comes once."""
    got = []
    while not got or got[-1] != last:
        got.append(int(await websocket.recv()))
        assert len(got) == 1 or got[-1] > got[-2]
    return got


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


def test_a_server_starts_without_its_engine_and_joins_when_it_is_there(run, engine, monkeypatch):
    monkeypatch.setattr("fastws.backplane.remote.START", 0.1)
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
                    await redis._call(connection, "CONFIG", "SET", "maxmemory", "1")
            async with client(b, "h") as one:
                a.publish("h", "1")
                assert await one.recv() == "1"
                await until(lambda: accounted(a) == a.backplane.stats.sent == 1)
                assert a.backplane.engine.up

    run(main)
    assert re.search("does not keep a message: .*OOM|NATS keeps nothing of h", caplog.text)


# ---------------------------------------------------------------- servers in processes of their own


class Node:
    """A server in a process of its own that publishes what it is told to; see backplane_node.py."""

    def __init__(self, url, topic):
        self.process = subprocess.Popen(
            [sys.executable, str(NODE), url, topic], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    async def line(self):
        loop = asyncio.get_running_loop()
        line = await loop.run_in_executor(None, self.process.stdout.readline)
        assert line, "the node has ended"
        return line.strip()

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    async def ask(self, command):
        self.tell(command)
        return json.loads(await self.line())

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(LIMIT)
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def started(url, topic):
    node = Node(url, topic)
    try:
        yield node
    finally:
        node.end()


def test_a_server_that_is_killed_during_traffic_costs_only_what_it_had_not_sent(run, tmp_path):
    url = f"local://{tmp_path}/b"
    gaps = []

    async def main():
        options = {"on_gap": lambda _, topics: gaps.append(topics)}
        async with joined(url, 1, **options) as (a,), client(a, "x") as one:
            with started(url, "x") as node:
                epoch = await node.line()
                await until(lambda: epoch in a.backplane.engine.peers)
                await a.backplane.settle()
                node.tell("publish 1000000")
                got = [int(await one.recv()) for _ in range(200)]
                node.process.kill()
                await until(lambda: epoch not in a.backplane.engine.peers)
            a.publish("x", "0")
            while got[-1] != 0:
                got.append(int(await one.recv()))
            assert got[:-1] == list(range(1, len(got)))
            await until(lambda: gaps)
            assert gaps == [None]
            # Its socket is gone with it, and another may come.
            await until(lambda: [path.stem for path in (tmp_path / "b").iterdir()] == [a.epoch])
            with started(url, "x") as node:
                again = await node.line()
                assert again != epoch
                await until(lambda: again in a.backplane.engine.peers)
                await a.backplane.settle()
                node.tell("publish 1")
                assert await one.recv() == "1"

    run(main)


@contextlib.asynccontextmanager
async def stopped_node(url, a):
    """Give a server in another process that is stopped, to be continued by `SIGCONT`, and the link to it."""
    with started(url, "x") as node:
        epoch = await node.line()
        await until(lambda: any(one.epoch == epoch for one in a.backplane.engine.outlets))
        outlet = next(one for one in a.backplane.engine.outlets if one.epoch == epoch)
        node.process.send_signal(signal.SIGSTOP)
        yield node, outlet


async def answers(node, condition):
    """Ask until the answer is as it should be; return it."""
    while not condition(said := await node.ask("")):
        pass
    return said


def test_a_server_that_stops_reading_costs_the_others_a_bounded_outbox(run, tmp_path, monkeypatch):
    url = f"local://{tmp_path}/b"
    monkeypatch.setattr("fastws.backplane.LIMIT", 100_000)
    count = 30_000

    async def main():
        async with joined(url, 2) as (a, b), client(b, "x") as one, stopped_node(url, a) as (node, outlet):
            reading = asyncio.ensure_future(numbers_until(one, count))
            for number in range(1, count + 1):
                a.publish("x", str(number))
                if number % 100 == 0:
                    await asyncio.sleep(0.001)
                    assert outlet.transport.get_write_buffer_size() <= 110_000
            # Nobody else notices.
            assert await reading == list(range(1, count + 1))
            dropped = a.backplane.stats.dropped
            assert dropped > 0
            node.process.send_signal(signal.SIGCONT)
            await until(lambda: not outlet._lost)
            a.publish("x", str(count + 1))
            said = await answers(node, lambda said: said["gaps"] and said["kept"][-1] == count + 1)
            assert said["kept"] == sorted(set(said["kept"]))
            assert (len(said["kept"]), said["missing"]) == (count + 1 - dropped, dropped)

    run(main)


def test_what_an_outbox_has_no_room_for_comes_late_where_it_is_kept(run, tmp_path, monkeypatch):
    url = f"local://{tmp_path}/b"
    monkeypatch.setattr("fastws.backplane.LIMIT", 100_000)
    count = 20_000

    async def main():
        async with joined(url, 1) as (a,):
            a.topic("x", history=50_000)
            async with stopped_node(url, a) as (node, _):
                before = a.backplane.stats.sent
                await publishing(a, "x", 1, count)
                put_off = count + before - a.backplane.stats.sent
                assert put_off > 0
                node.process.send_signal(signal.SIGCONT)
                said = await answers(node, lambda said: said["kept"] and said["kept"][-1] == count)
                assert said["kept"] == list(range(1, count + 1))
                assert said["stats"]["recovered"] >= put_off
                assert (said["missing"], said["stats"]["duplicates"], said["gaps"]) == (0, 0, 0)
                assert (a.backplane.stats.sent, a.backplane.stats.dropped) == (before + count, 0)

    run(main)


def test_a_history_larger_than_the_outbox_reaches_who_comes_late(run, tmp_path, monkeypatch):
    url = f"local://{tmp_path}/b"
    monkeypatch.setattr("fastws.backplane.LIMIT", 100_000)
    count = 20_000

    async def main():
        async with joined(url, 1) as (a,):
            a.topic("x", history=count)
            await publishing(a, "x", 1, count)
            with started(url, "x") as node:
                # It has settled before it says anything: then all of it is there.
                await node.line()
                said = await node.ask("")
                assert said["kept"] == list(range(1, count + 1))
                assert (said["missing"], said["stats"]["received"], said["stats"]["duplicates"]) == (0, 0, 0)
                assert a.backplane.stats.dropped == 0

    run(main)


def test_what_is_too_large_for_an_outbox_is_announced_though_nothing_follows(run, tmp_path, monkeypatch):
    monkeypatch.setattr("fastws.backplane.LIMIT", 10_000)
    gaps = []

    async def main():
        options = {"on_gap": lambda _, topics: gaps.append(topics)}
        async with joined(f"local://{tmp_path}/b", **options) as (a, b), client(b, "x") as one:
            a.publish("x", "1")
            a.publish("x", b"2" * 10_000)
            assert await one.recv() == "1"
            await until(lambda: gaps)
            assert gaps == [None]
            a.publish("x", "3")
            assert await one.recv() == "3"
            assert a.backplane.stats.dropped == b._topics.find("x").missing == 1

    run(main)


def test_a_link_that_is_cut_is_made_again(run, tmp_path):
    async def main():
        async with joined(f"local://{tmp_path}/b") as (a, b), client(b, "x") as one:
            (outlet,) = a.backplane.engine.outlets
            outlet.transport.abort()
            await until(lambda: b.backplane.stats.reconnects == 1)
            await b.backplane.settle()
            a.publish("x", "again")
            assert await one.recv() == "again"

    run(main)


def test_what_is_subscribed_to_while_a_link_is_made_is_known_at_its_other_end(run, tmp_path, monkeypatch):
    made = links.Inlet.connection_made

    def connection_made(inlet, transport):
        made(inlet, transport)
        # Of the server that was there first: the other one is on its way.
        for connection in first.connections if inlet.engine.receiver.epoch == first.epoch else ():
            connection.subscribe("late")

    async def main():
        nonlocal first
        url = f"local://{tmp_path}/b"
        async with joined(url, 1) as (first,), client(first, "x") as one:
            monkeypatch.setattr(links.Inlet, "connection_made", connection_made)
            async with joined(url, 1) as (second,):
                await settled(first, second)
                second.publish("late", "news")
                assert await one.recv() == "news"

    first = None
    run(main)


def test_the_socket_is_for_this_user_alone_whatever_the_mask_is(run, tmp_path):
    async def main():
        (tmp_path / "b").mkdir(mode=0o755)
        async with joined(f"local://{tmp_path}/b", 1):
            (path,) = (tmp_path / "b").iterdir()
            assert path.stat().st_mode & 0o777 == 0o600

    before = os.umask(0)
    try:
        run(main)
    finally:
        os.umask(before)


def test_the_socket_of_a_server_that_was_killed_is_removed(run, tmp_path):
    async def main():
        (tmp_path / "b").mkdir(mode=0o700)
        path = tmp_path / "b" / ("0" * 16 + ".sock")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
        async with joined(f"local://{tmp_path}/b", 1) as (a,):
            await until(lambda: not a.backplane.engine.epochs())
            assert not path.exists()
            assert isinstance(a.backplane.engine, local.LocalBackplane)

    run(main)
