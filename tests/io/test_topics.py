"""Topics on real sockets: who gets what, in which order, and what is kept for those who come late."""

import asyncio
import contextlib
import gc
import random
import re
import threading
import weakref

import pytest
import websockets
from peers import port_of, raw, until
from subscribing import Subscriber, counts, served

import fastws


def test_subscribers_get_what_is_published_and_others_do_not(run):
    async def main():
        async with served("a", "a,b", "") as (server, one, two, none):
            assert counts(server.publish("a", "first")) == (2, 2, 0, 0, 0)
            assert counts(server.publish("b", b"second")) == (1, 1, 0, 0, 0)
            assert counts(server.publish("c", "nobody")) == (0, 0, 0, 0, 0)
            assert await one.recv() == "first"
            assert [await two.recv(), await two.recv()] == ["first", b"second"]
            fastws.broadcast(server.connections, "end")
            assert await none.recv() == "end"

    run(main)


def test_publish_of_a_connection_leaves_itself_out_and_exclude_does_so_for_a_server(run):
    async def main():
        async with served("said", "said") as (server, one, two):
            await one.send("hello")
            assert await two.recv() == "hello"
            first = next(c for c in server.presence("said") if c.remote_address == one.local_address)
            assert counts(server.publish("said", "x", exclude=first))[:2] == (1, 1)
            server.publish("said", "y")
            assert await one.recv() == "y"
            assert [await two.recv(), await two.recv()] == ["x", "y"]

    run(main)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("trades.*", ["trades.btc", "trades.a.b"], ["trades", "trades.", "quotes.btc"]),
        ("*.btc", ["trades.btc"], ["a.b.btc", ".btc"]),
        ("a.*.c", ["a.b.c"], ["a.b.b.c", "a..c", "axbxc"]),
        ("*", ["anything"], ["a.b", ""]),
    ],
)
def test_a_pattern_gets_the_topics_that_match_it(run, pattern, matching, other):
    async def main():
        async with served(pattern) as (server, client):
            for name in other + matching:
                server.publish(name, name)
            assert [await client.recv() for _ in matching] == matching
            assert server.connections.pop().topics == {pattern}

    run(main)


def test_who_subscribed_to_a_topic_and_to_patterns_of_it_gets_a_message_once(run):
    async def main():
        async with served("a.b,a.*,*.b", "a.*") as (server, several, one):
            assert counts(server.publish("a.b", "x"))[:2] == (2, 2)
            server.publish("a.b", "y")
            assert [await several.recv(), await several.recv()] == ["x", "y"]
            assert await one.recv() == "x"

    run(main)


def test_a_subscription_ends_with_unsubscribe_and_with_the_connection(run):
    async def main():
        async with served("a", "a,b") as (server, one, two):
            (connection,) = server.presence("b")
            assert connection.topics == {"a", "b"}
            assert connection.unsubscribe("b")
            assert not connection.unsubscribe("b")
            assert not connection.unsubscribe("never")
            assert connection.topics == {"a"}
            assert server.subscribers("a") == 2
            await one.close()
            await until(lambda: server.subscribers("a") == 1)
            assert counts(server.publish("a", "x"))[:2] == (1, 1)
            assert await two.recv() == "x"
            # Subscribing twice is subscribing.
            connection.subscribe("a")
            assert server.subscribers("a") == 1

    run(main)


def test_any_order_of_joining_and_leaving_keeps_the_books(run):
    rng = random.Random(7)
    names = [f"t{i}" for i in range(12)]

    async def main():
        async with fastws.serve(Subscriber, "127.0.0.1", 0) as server, contextlib.AsyncExitStack() as stack:
            for _ in range(12):
                reader, _writer = await stack.enter_async_context(raw(server))
                await reader.readuntil(b"\r\n\r\n")
            connections = list(server.connections)
            model = {connection: set() for connection in connections}
            for step in range(4000):
                connection, name = rng.choice(connections), rng.choice(names)
                if rng.random() < 0.5:
                    connection.subscribe(name)
                    model[connection].add(name)
                else:
                    assert connection.unsubscribe(name) == (name in model[connection])
                    model[connection].discard(name)
                if step % 500 == 499:
                    gone = connections.pop()
                    gone.abort()
                    del model[gone]
                    await until(lambda gone=gone: gone.topics == set())
                for each in connections:
                    assert each.topics == model[each]
                for each in names:
                    members = {c for c in connections if each in model[c]}
                    assert server.presence(each) == members
                    assert server.subscribers(each) == len(members)

    run(main)


def test_what_one_turn_publishes_leaves_in_order(run):
    async def main():
        async with served("a,b") as (server, client):
            results = server.publish_many((("a", "b")[i % 2], str(i)) for i in range(500))
            assert [r.sequence for r in results[-2:]] == [250, 250]
            assert [await client.recv() for _ in range(500)] == [str(i) for i in range(500)]

    run(main)


def test_publishing_from_another_thread(run):
    async def main():
        async with served("a") as (server, client):
            errors = []

            def work():
                try:
                    server.publish("a", "wrong")
                except RuntimeError as error:
                    errors.append(error)
                server.publish_threadsafe("a", "right")

            thread = threading.Thread(target=work)
            thread.start()
            assert await client.recv() == "right"
            thread.join()
            assert len(errors) == 1

    run(main)


def test_a_message_does_not_come_between_the_fragments_of_another(run):
    async def handler(ws):
        ws.subscribe("a")
        go = asyncio.Event()

        async def fragments():
            yield "x"
            ws.server.publish("a", "news")
            go.set()
            yield "y"

        await ws.send(fragments())
        await ws.recv()

    async def main():
        async with (
            fastws.serve(handler, "127.0.0.1", 0) as server,
            websockets.connect(f"ws://127.0.0.1:{port_of(server)}", compression=None) as client,
        ):
            assert [await client.recv(), await client.recv()] == ["xy", "news"]

    run(main)


# ---------------------------------------------------------------- late subscribers


def test_retained_messages_come_first_and_in_order(run):
    async def main():
        async with served() as (server,):
            server.topic("prices", retain=2)
            for i, key in enumerate("abcab"):
                server.publish("prices", f"{key}{i}", key=key)
            async with websockets.connect(
                f"ws://127.0.0.1:{port_of(server)}/prices", compression=None
            ) as client:
                server.publish("prices", "new", key="z")
                assert [await client.recv() for _ in range(3)] == ["a3", "b4", "new"]

    run(main)


def test_a_pattern_gives_its_options_to_topics_and_their_retained_messages_to_its_subscribers(run):
    async def main():
        async with served() as (server,):
            server.topic("p.*", retain=1)
            server.publish("p.a", "1")
            server.publish("p.b", "2")
            async with websockets.connect(
                f"ws://127.0.0.1:{port_of(server)}/p.*", compression=None
            ) as client:
                assert {await client.recv(), await client.recv()} == {"1", "2"}

    run(main)


@pytest.mark.parametrize(
    ("since", "replayed", "complete"),
    [
        (10, [], True),
        (9, ["10"], True),
        (7, ["8", "9", "10"], True),
        (6, ["8", "9", "10"], False),
        (11, [], False),
    ],
)
def test_history_gives_what_was_missed_or_says_that_it_cannot(run, since, replayed, complete):
    async def main():
        async with served("") as (server, client):
            topic = server.topic("a", history=3)
            for i in range(1, 11):
                assert server.publish("a", str(i)).sequence == i
            assert topic.sequence == 10
            (connection,) = server.connections
            assert connection.subscribe("a", since=since) == (10, len(replayed), complete)
            server.publish("a", "new")
            assert [await client.recv() for _ in range(len(replayed) + 1)] == [*replayed, "new"]

    run(main)


@pytest.mark.parametrize(
    ("since", "replayed", "complete"),
    [
        ({"f" * 16: 0}, ["1", "2", "3"], True),
        ({}, ["1", "2", "3"], True),
        ({"f" * 16: 0, "own": 2}, ["3"], True),
        ({"f" * 16: 0, "own": 3}, [], True),
        ({"f" * 16: 1, "own": 3}, [], False),
        ({"f" * 16: 1, "e" * 16: 0}, [], False),
    ],
)
@pytest.mark.parametrize("history", [3, 2, None])
def test_a_publisher_that_is_not_known_counts_from_its_first_message_on(
    run, history, since, replayed, complete
):
    async def main():
        async with served("") as (server, client):
            server.topic("a", history=history)
            for i in range(1, 4):
                server.publish("a", str(i))
            (connection,) = server.connections
            there = [one for one in replayed if history is not None and int(one) > 3 - history]
            positions = {server.epoch if name == "own" else name: n for name, n in since.items()}
            complete_here = complete and there == replayed
            assert connection.subscribe("a", since=positions) == (3, len(there), complete_here)
            server.publish("a", "new")
            assert [await client.recv() for _ in range(len(there) + 1)] == [*there, "new"]

    run(main)


def test_since_that_is_no_number_of_0_and_more_is_refused_with_what_is_allowed(run):
    async def main():
        async with served("") as (server, _):
            (connection,) = server.connections
            for wrong in ("5", 1.0, True, {"zz": "x"}, {"zz": True}, {5: 1}, [("zz", 1)], b"5"):
                said = re.escape(f"since is {wrong!r}, allowed are a sequence number")
                with pytest.raises(TypeError, match=said):
                    connection.subscribe("a", since=wrong)
            for wrong in (-1, {"zz": 1, "yy": -1}):
                said = re.escape(f"since is {wrong!r}, allowed are numbers of 0 and more")
                with pytest.raises(ValueError, match=said):
                    connection.subscribe("a", since=wrong)
            assert not connection.topics
            assert server._topics.find("a") is None

    run(main)


def test_history_is_bounded_in_time(run):
    async def main():
        async with served("") as (server, _):
            server.topic("a", history_seconds=0.05)
            server.publish("a", "old")
            await asyncio.sleep(0.1)  # what the test is about
            server.publish("a", "new")
            (connection,) = server.connections
            assert connection.subscribe("a", since=0) == (2, 1, False)

    run(main)


# ---------------------------------------------------------------- presence, and the rest


def test_presence_and_its_events(run):
    events = []

    async def main():
        async with served("") as (server, client):
            server.topic(
                "room",
                on_join=lambda ws, name: events.append(("join", name)),
                on_leave=lambda ws, name: events.append(("leave", name)),
            )
            (connection,) = server.connections
            connection.subscribe("room")
            assert server.presence("room") == {connection}
            await until(lambda: events == [("join", "room")])
            await client.close()
            await until(lambda: events == [("join", "room"), ("leave", "room")])
            assert server.presence("room") == set()

    run(main)


def test_coroutine_handlers_subscribe_too(run):
    async def handler(ws):
        ws.subscribe("a")
        async for message in ws:
            ws.server.publish("a", message)

    async def main():
        async with (
            fastws.serve(handler, "127.0.0.1", 0) as server,
            websockets.connect(f"ws://127.0.0.1:{port_of(server)}") as client,
        ):
            await client.send("x")
            assert await client.recv() == "x"

    run(main)


def test_topics_without_subscribers_are_forgotten_and_declared_ones_are_not(run):
    async def main():
        async with served("a,p.*") as (server, client):
            server.topic("kept")
            server.publish("p.x", "1")
            server.publish("b", "2")
            assert server._topics.find("b") is None
            assert server._topics.find("p.x") is not None
            await client.close()
            await until(lambda: not server.connections)
            assert [server._topics.find(name) for name in ("a", "p.*", "p.x")] == [None] * 3
            assert server._topics.find("kept") is not None

    run(main)


def test_a_loop_that_closes_under_subscribers_leaves_nothing_behind(run):
    gone = []

    async def main():
        server = await fastws.serve(Subscriber, "127.0.0.1", 0)
        async with raw(server) as (reader, _):
            await reader.readuntil(b"\r\n\r\n")
            (connection,) = server.connections
            connection.subscribe("a")
            connection.subscribe("b.*")
            gone.append(weakref.ref(connection))
            server.publish("a", "x")
        server._carrier.close()
        server.close()

    run(main)
    gc.collect()
    assert gone[0]() is None


def test_what_cannot_be_is_refused(run):
    async def main():
        async with served("") as (server, _):
            (connection,) = server.connections
            with pytest.raises(ValueError, match="pattern"):
                server.publish("a.*", "x")
            with pytest.raises(ValueError, match="pattern"):
                connection.subscribe("a.*", since=1)
            with pytest.raises(ValueError, match="policy is 'no'"):
                server.topic("a", policy="no")
            with pytest.raises(ValueError, match="max_bytes"):
                server.topic("a", max_bytes=None)
            for wrong in (
                lambda: connection.subscribe(1),
                lambda: server.publish("a", 1),
                lambda: server.publish("a", "x", key=1),
            ):
                with pytest.raises(TypeError):
                    wrong()
            connection.abort()
            with pytest.raises(fastws.ConnectionClosed):
                connection.subscribe("a")

    run(main)
