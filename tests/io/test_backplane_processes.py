"""Servers of one host that are killed, stopped or cut off: what that costs the others.

Nothing comes twice or out of order, and what is lost is counted.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest
from joining import client, joined, settled
from peers import LIMIT, until
from traffic import numbers_until, publishing

import fastws
from fastws.backplane import links, local

pytestmark = pytest.mark.parametrize("run", ["uvloop"], indirect=True)

NODE = pathlib.Path(__file__).with_name("backplane_node.py")


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


def test_a_server_that_is_stuck_does_not_keep_another_from_starting(run, tmp_path, caplog):
    url = f"local://{tmp_path}/b"
    caplog.set_level("INFO")

    async def main():
        async with joined(url, 1) as (a,), stopped_node(url, a):
            loop = asyncio.get_running_loop()
            begin = loop.time()
            async with fastws.serve(on_message=print, host="127.0.0.1", port=0, backplane=url):
                assert loop.time() - begin < 3.0
            assert "not all servers" in caplog.text

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


def test_what_has_come_of_a_history_is_kept_when_its_server_ends_before_the_rest(run, tmp_path, monkeypatch):
    monkeypatch.setattr("fastws.backplane.LIMIT", 10_000)
    monkeypatch.setattr(local, "STILL", 0.05)
    catch_up = links.Outlet._catch_up
    gaps = []

    def no_further(outlet, parts, free):
        if outlet.engine.receiver.epoch != a.epoch or b.backplane.engine.fetched < 100:
            catch_up(outlet, parts, free)

    async def main():
        nonlocal a, b
        url = f"local://{tmp_path}/b"
        async with joined(url, 1, on_gap=lambda _, topics: gaps.append(topics)) as (b,):
            async with joined(url, 1) as (a,):
                await settled(a, b)
                a.topic("x", history=1000)
                await publishing(a, "x", 1, 1000)
                monkeypatch.setattr(links.Outlet, "_catch_up", no_further)
                topic = b.topic("x", history=1000)
                await until(lambda: b.backplane.engine.fetched >= 100)
                assert not topic.kept.entries()[0]
            await until(lambda: topic.kept.entries()[0])
            kept = [entry[1] for entry in topic.kept.entries()[0]]
            assert kept == list(range(1, len(kept) + 1))
            assert 100 <= len(kept) < 1000
            await until(lambda: gaps)
            assert (gaps, b.backplane.stats.received) == ([None], 0)

    a = b = None
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
