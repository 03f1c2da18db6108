"""Servers that share a backplane: who gets what, in which order, and what those get who come late."""

import asyncio
import contextlib
import json
import struct
from unittest import mock

import pytest
from engines import Engine, needs
from joining import Subscriber, client, joined, settled
from peers import HANDSHAKE, until
from wire import deaf, fill

import fastws
from fastws.backplane import relay
from fastws.backplane.roster import Roster

ENGINES = ["local", "redis", "nats"]

pytestmark = pytest.mark.parametrize("run", ["uvloop"], indirect=True)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Give a function that starts an engine when it is first asked for."""
    running = {}

    def find(name):
        if name not in running:
            needs(name)
            running[name] = Engine(name, tmp_path_factory.mktemp(name))
            running[name].start()
        return running[name]

    yield find
    for engine in running.values():
        engine.stop()


@pytest.fixture(params=ENGINES)
def url(request, engines, tmp_path):
    """A backplane that no other test uses."""
    if request.param == "local":
        return f"local://{tmp_path}/b"
    return f"{engines(request.param).url}?prefix={abs(hash(request.node.name)):x}"


def received(server, topic):
    found = server._topics.find(topic)
    return 0 if found is None else found.received


def test_a_server_that_is_alone_on_its_host_makes_no_packets(run, tmp_path):
    async def main():
        url = f"local://{tmp_path}/b"
        async with fastws.serve(Subscriber, "127.0.0.1", 0, backplane=url) as server:
            with mock.patch.object(relay, "pack", side_effect=relay.pack) as pack:
                server.publish("x", "nobody's")
                assert not pack.called
                async with fastws.serve(Subscriber, "127.0.0.1", 0, backplane=url) as other:
                    await settled(server, other)
                    server.publish("x", "perhaps another's")
                    assert pack.called

    run(main)


def test_what_one_server_publishes_reaches_subscribers_of_another_once(run, url):
    async def main():
        async with joined(url) as (a, b), client(b, "x,x.*,*.y") as one, client(a, "x") as two:
            a.publish("x", "text")
            a.publish("x.y", b"binary")
            a.publish("z", "nobody's")
            assert [await one.recv(), await one.recv()] == ["text", b"binary"]
            b.publish("x", "back")
            assert await one.recv() == "back"
            assert [await two.recv(), await two.recv()] == ["text", "back"]
            assert (b.backplane.stats.received, b.backplane.stats.malformed) == (2, 0)

    run(main)


@pytest.mark.parametrize(
    "topic", ["with space", "a..b", ".", "täglich.☃", "a?[b]\\c", "x:{y}", "%", "$fast>"]
)
def test_a_topic_may_have_any_name(run, url, topic):
    async def main():
        async with joined(url) as (a, b), client(b, "") as one:
            (connection,) = b.connections
            connection.subscribe(topic)
            await b.backplane.settle()
            a.publish(topic + "2", "other")
            a.publish(topic, "this")
            assert await one.recv() == "this"

    run(main)


def test_each_publishers_messages_come_in_order_and_none_is_missing(run, url):
    count = 2000

    async def main():
        async with joined(url, 3) as (a, b, c), client(c, "x") as one:
            for i in range(count):
                a.publish("x", f"a {i}")
                b.publish("x", f"b {i}")
                if i % 100 == 99:
                    await asyncio.sleep(0)
            got = {"a": [], "b": []}
            for _ in range(2 * count):
                name, number = (await one.recv()).split()
                got[name].append(int(number))
            assert got == {"a": list(range(count)), "b": list(range(count))}
            assert c.backplane.stats.missing == 0

    run(main)


def test_numbers_go_on_where_the_publisher_has_no_subscribers(run, url):
    async def main():
        async with joined(url) as (a, b), client(b, "x") as one:
            for i in range(5):
                assert a.publish("x", str(i)).sequence == i + 1
                assert await one.recv() == str(i)
            assert b._topics.find("x").missing == 0

    run(main)


def test_nobody_is_sent_what_it_does_not_want(run, tmp_path):
    async def main():
        async with joined(f"local://{tmp_path}/b", 3) as (a, b, c), client(b, "x") as one:
            before = c.backplane.stats.received, a.backplane.stats.sent
            a.publish("x", "1")
            assert await one.recv() == "1"
            assert (c.backplane.stats.received, a.backplane.stats.sent) == (before[0], before[1] + 1)
            (connection,) = b.connections
            connection.unsubscribe("x")
            await b.backplane.settle()
            a.publish("x", "2")
            assert a.backplane.stats.sent == before[1] + 1
            connection.subscribe("x")
            await b.backplane.settle()
            a.publish("x", "3")
            assert await one.recv() == "3"
            # What was not for anybody is not missing.
            assert b._topics.find("x").missing == 0

    run(main)


def test_a_name_that_comes_to_be_covered_by_a_pattern_and_is_uncovered_again_loses_nothing(run, url):
    async def main():
        async with joined(url) as (a, b), client(b, "p.x") as one:
            (connection,) = b.connections
            topic = b._topics.find("p.x")
            got = []
            published = 0
            turning = True

            async def publish():
                nonlocal published
                while turning:
                    if published - topic.received - topic.missing < 500:
                        for _ in range(20):
                            published += 1
                            a.publish("p.x", str(published))
                    await asyncio.sleep(0)

            async def read():
                while True:
                    got.append(int(await one.recv()))

            tasks = [asyncio.ensure_future(publish()), asyncio.ensure_future(read())]
            for _ in range(30):
                connection.subscribe("p.*")
                connection.subscribe("*.x")
                await b.backplane.settle()
                connection.unsubscribe("p.*")
                await b.backplane.settle()
                connection.unsubscribe("*.x")
                await b.backplane.settle()
            turning = False
            await tasks[0]
            await until(lambda: topic.received + topic.missing == published)
            assert topic.missing == 0
            await until(lambda: len(got) == published)
            assert got == list(range(1, published + 1))
            tasks[1].cancel()

    run(main)


def test_history_is_there_on_every_server_and_on_those_that_come_later(run, url):
    async def main():
        async with joined(url) as (a, b):
            for server in (a, b):
                server.topic("h.*", history=100)
                await server.backplane.settle()
            for i in range(3):
                a.publish("h.x", f"a{i}")
                b.publish("h.x", f"b{i}")
            await until(lambda: received(a, "h.x") == received(b, "h.x") == 3)
            async with joined(url, 1) as (c,):
                c.topic("h.*", history=100)
                await c.backplane.settle()
                await until(lambda: c._topics.find("h.x") is not None)
                for server in (b, c):
                    async with client(server, "") as one:
                        (connection,) = server.connections
                        since = {a.epoch: 1, b.epoch: 2}
                        subscribed = connection.subscribe("h.x", since=since)
                        assert tuple(subscribed)[1:] == (3, True)
                        assert {a.epoch: 3, b.epoch: 3}.items() <= subscribed.positions.items()
                        got = {await one.recv() for _ in range(3)}
                        assert got == {"a1", "a2", "b2"}
                        connection.unsubscribe("h.x")
                        assert not connection.subscribe("h.x", since={"0" * 16: 1, a.epoch: 3}).complete

    run(main)


def test_retained_values_are_the_newest_of_each_key_on_every_server(run, url):
    async def main():
        async with joined(url) as (a, b):
            for server in (a, b):
                server.topic("r", retain=2)
                await server.backplane.settle()
            for key in ("one", "two", "three"):
                a.publish("r", f"old {key}", key=key)
            await until(lambda: received(b, "r") == 3)
            b.publish("r", "new two", key="two")
            await until(lambda: received(a, "r") == 1)
            async with joined(url, 1) as (c,):
                c.topic("r", retain=2)
                await c.backplane.settle()
                await until(lambda: len(c._topics.find("r").kept.entries()[1]) == 2)
                for server in (a, b, c):
                    async with client(server, "r") as one:
                        assert {await one.recv(), await one.recv()} == {"old three", "new two"}

    run(main)


@pytest.mark.parametrize("url", ["redis"], indirect=True)
def test_a_topic_of_which_something_is_kept_while_it_is_being_forgotten_is_found_later(run, url):
    async def main():
        async with joined(url) as (a, b):
            for server in (a, b):
                server.topic("h.*", history=10)
                await server.backplane.settle()
            ask = b.backplane.engine._ask

            async def ask_and_publish(connection, *commands):
                answers = await ask(connection, *commands)
                if commands[-1][0] == "HVALS":
                    sent = a.backplane.stats.sent
                    a.publish("h.x", "news")
                    await until(lambda: a.backplane.stats.sent > sent)
                return answers

            async with b.backplane.engine._connection() as connection:
                await ask(connection, ("SADD", f"{b.backplane.engine._prefix}:names", "h.x"))
            b.backplane.engine._ask = ask_and_publish
            assert await b.backplane.engine.fetch("h.*") == {}
            del b.backplane.engine._ask
            assert list(await b.backplane.engine.fetch("h.*")) == ["h.x"]
            # And what has nothing is forgotten.
            async with b.backplane.engine._connection() as connection:
                names = f"{b.backplane.engine._prefix}:names"
                await ask(connection, ("SADD", names, "h.y"))
                await b.backplane.engine.fetch("h.*")
                assert await ask(connection, ("SMEMBERS", names)) == [[b"h.x"]]

    run(main)


@pytest.mark.parametrize("url", ["redis"], indirect=True)
def test_an_older_value_that_reaches_the_engine_late_does_not_replace_a_newer_one(run, url):
    async def main():
        async with joined(url) as (a, b):
            for server in (a, b):
                server.topic("r", retain=2)
                await server.backplane.settle()
            late = asyncio.Event()
            send = a.backplane.engine.send

            async def send_late(batch):
                await late.wait()
                return await send(batch)

            a.backplane.engine.send = send_late
            a.publish("r", "older", key="k")
            await asyncio.sleep(0.01)
            b.publish("r", "newer", key="k")
            await until(lambda: received(a, "r") == 1)
            late.set()
            await until(lambda: received(b, "r") == 1)
            async with joined(url, 1) as (c,):
                c.topic("r", retain=2)
                await c.backplane.settle()
                for server in (a, b, c):
                    async with client(server, "r") as one:
                        assert await one.recv() == "newer"
            # And what is newer does.
            a.publish("r", "newest", key="k")
            await until(lambda: received(b, "r") == 2)
            async with joined(url, 1) as (c,):
                c.topic("r", retain=2)
                await c.backplane.settle()
                async with client(c, "r") as one:
                    assert await one.recv() == "newest"

    run(main)


def test_a_key_conflates_for_a_slow_subscriber_of_another_server(run, url):
    async def main():
        async with joined(url) as (a, b), deaf(b, handshake=HANDSHAKE.replace(b"/ ", b"/x ", 1)):
            topic = b.topic("x", policy="latest")
            await until(lambda: len(topic) == 1)
            await b.backplane.settle()
            await fill(*topic.subscribers)
            for i in range(50):
                a.publish("x", f"{i}", key="k")
            await until(lambda: topic.received == 50)
            assert (topic.queued, topic.conflated) == (1, 49)

    run(main)


def test_a_compressed_variant_is_made_where_it_is_delivered(run, url):
    async def main():
        async with joined(url, compression="deflate") as (a, b), client(b, "x", compression="deflate") as one:
            a.publish("x", "again " * 200)
            assert await one.recv() == "again " * 200
            assert b.backplane.stats.received == 1

    run(main)


def test_presence_is_asked_for_everywhere(run, url):
    async def main():
        async with joined(url, 3) as (a, b, c), client(b, "x"), client(b, "x"), client(c, "x,y"):
            presence = await a.presence_everywhere("x", timeout=5)
            assert presence.complete
            assert presence.counts == {a.epoch: 0, b.epoch: 2, c.epoch: 1}
            assert presence.total == 3
            assert set(presence.connections[c.epoch]) == {str(ws.id) for ws in c.connections}

    run(main)


def test_who_starts_or_asks_is_answered_alone(run, url, monkeypatch):
    monkeypatch.setattr("fastws.backplane.roster.INTERVAL", 1000.0)
    heard = []
    hear = Roster.hear

    def hear_and_note(roster, packet):
        heard.append((roster._host.epoch, packet.epoch))
        hear(roster, packet)

    async def main():
        async with joined(url, 3) as old:
            monkeypatch.setattr(Roster, "hear", hear_and_note)
            async with joined(url, 1) as (new,):
                await settled(new, *old)
                presence = await new.presence_everywhere("x", timeout=5)
                assert presence.counts.keys() == {server.epoch for server in (new, *old)}
                assert {speaker for hearer, speaker in heard if hearer == new.epoch} == {
                    server.epoch for server in old
                }
                assert {speaker for hearer, speaker in heard if hearer != new.epoch} == {new.epoch}

    run(main)


def test_presence_says_so_when_somebody_does_not_answer(run, tmp_path):
    async def main():
        async with joined(f"local://{tmp_path}/b") as (a, b):
            a.backplane.roster._seen["f" * 16] = float("inf")
            presence = await a.presence_everywhere("x", timeout=0.2)
            assert not presence.complete
            assert presence.counts == {a.epoch: 0, b.epoch: 0}

    run(main)


def test_ticker_clients_get_positions_recover_on_another_server_and_hear_of_gaps(run, url):
    async def main():
        async with joined(url, handler=fastws.TickerHandler) as (a, b):
            for server in (a, b):
                server.topic("t", history=10)
                await server.backplane.settle()
            for i in range(3):
                fastws.TickerHandler.publish(a, "t", i)
            await until(lambda: received(b, "t") == 3)
            async with client(b, "") as one:
                await one.send(json.dumps({"op": "subscribe", "topic": "t", "since": 1, "epoch": a.epoch}))
                got = [json.loads(await one.recv()) for _ in range(3)]
                assert [(m["sequence"], m["data"], m["epoch"]) for m in got[:2]] == [
                    (2, 1, a.epoch),
                    (3, 2, a.epoch),
                ]
                assert got[2]["complete"]
                assert got[2]["positions"] == {a.epoch: 3, b.epoch: 0}
                b.backplane.gap("t")
                b.backplane.gap("other")
                assert json.loads(await one.recv()) == {"op": "gap", "topic": "t"}
                b.backplane.gap(None)
                assert json.loads(await one.recv()) == {"op": "gap", "topic": None}

    run(main)


def test_a_closed_server_leaves_nothing_behind_and_the_others_hear_of_no_gap(run, tmp_path):
    gaps = []

    async def main():
        async with joined(f"local://{tmp_path}/b", 1, on_gap=lambda _, topics: gaps.append(topics)) as (a,):
            async with joined(f"local://{tmp_path}/b", 1) as (b,):
                await settled(a, b)
            await until(lambda: not a.backplane.engine.peers)
            assert a.backplane.roster.others == set()
            await asyncio.sleep(0.1)  # two rounds in which listeners would be told
            assert gaps == []
        assert list((tmp_path / "b").iterdir()) == []

    run(main)


def test_a_directory_that_others_may_write_to_is_refused(run, tmp_path):
    async def main():
        (tmp_path / "b").mkdir(mode=0o777)
        (tmp_path / "b").chmod(0o777)
        with pytest.raises(PermissionError, match="others may write"):
            await fastws.serve(Subscriber, "127.0.0.1", 0, backplane=f"local://{tmp_path}/b")

    run(main)


@pytest.mark.parametrize(
    "said",
    [
        struct.pack("!IB", 2**32 - 1, 1),
        struct.pack("!IB", 3, 1) + b"abc",
        struct.pack("!IB", 2, 2) + b"{}",
        b"\xff" * 64,
    ],
)
def test_what_a_peer_should_not_say_costs_its_link_only(run, tmp_path, said):
    async def main():
        async with joined(f"local://{tmp_path}/b") as (a, b), client(b, "x") as one:
            reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/b/{a.epoch}.sock")
            writer.write(said)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            assert a.backplane.stats.malformed == 1
            a.publish("x", "still")
            assert await one.recv() == "still"

    run(main)
