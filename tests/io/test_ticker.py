"""The JSON protocol for clients of topics, with a real client."""

import contextlib
import json

import pytest
import websockets
from peers import port_of

import fastws

pytestmark = pytest.mark.without_tls("a handler knows nothing of it")


class Prices(fastws.TickerHandler):
    max_topics = 3
    max_name = 20

    def authorise(self, ws, topic):
        return not topic.startswith("secret")


class Asking(Prices):
    async def authorise(self, ws, topic):
        return not topic.startswith("secret")


class Strict(Prices):
    patterns = False


@contextlib.asynccontextmanager
async def talking(handler=Prices):
    async with (
        fastws.serve(handler, "127.0.0.1", 0) as server,
        websockets.connect(f"ws://127.0.0.1:{port_of(server)}", compression=None) as client,
    ):

        async def say(**command):
            await client.send(json.dumps(command))
            return json.loads(await client.recv())

        yield server, client, say


@pytest.mark.parametrize("handler", [Prices, Asking])
def test_subscribe_publish_unsubscribe(run, handler):
    async def main():
        async with talking(handler) as (server, client, say):
            assert await say(op="subscribe", topic="p.a", id=7) == {
                "op": "subscribed",
                "topic": "p.a",
                "sequence": 0,
                "replayed": 0,
                "complete": True,
                "epoch": server.epoch,
                "id": 7,
            }
            result = fastws.TickerHandler.publish(server, "p.a", {"price": "1.5", "é": None})
            assert (result.sequence, result.queued) == (1, 1)
            assert json.loads(await client.recv()) == {
                "topic": "p.a",
                "sequence": 1,
                "data": {"price": "1.5", "é": None},
            }
            assert await say(op="unsubscribe", topic="p.a") == {
                "op": "unsubscribed",
                "topic": "p.a",
                "was_subscribed": True,
            }
            assert (await say(op="unsubscribe", topic="p.a"))["was_subscribed"] is False
            assert await say(op="ping", id="x") == {"op": "pong", "id": "x"}

    run(main)


def test_since_gives_what_was_missed(run):
    async def main():
        async with talking() as (server, client, say):
            server.topic("p.a", history=2)
            for i in range(1, 5):
                fastws.TickerHandler.publish(server, "p.a", i)
            await client.send(json.dumps({"op": "subscribe", "topic": "p.a", "since": 2}))
            got = [json.loads(await client.recv()) for _ in range(3)]
            assert [(m.get("sequence"), m.get("data")) for m in got[:2]] == [(3, 3), (4, 4)]
            assert (got[2]["replayed"], got[2]["complete"]) == (2, True)
            await say(op="unsubscribe", topic="p.a")
            await client.send(json.dumps({"op": "subscribe", "topic": "p.a", "since": 1}))
            assert [json.loads(await client.recv()) for _ in range(3)][2]["complete"] is False

    run(main)


def test_numbers_of_another_epoch_are_no_continuation(run):
    async def main():
        async with talking() as (server, _, say):
            server.topic("p.a", history=9)
            for i in range(3):
                fastws.TickerHandler.publish(server, "p.a", i)
            other = fastws.serve(Prices, "127.0.0.1", 0)
            async with other as elsewhere:
                assert elsewhere.epoch != server.epoch
                got = await say(op="subscribe", topic="p.a", since=2, epoch=elsewhere.epoch)
                assert (got["replayed"], got["complete"], got["epoch"]) == (0, False, server.epoch)
            await say(op="unsubscribe", topic="p.a")
            assert (await say(op="subscribe", topic="p.a", since=3, epoch=server.epoch))["complete"] is True

    run(main)


@pytest.mark.parametrize("handler", [Prices, Asking, Strict])
@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"{}", "a command is text"),
        ("{", "no JSON"),
        ("[" * 4000, "no JSON"),
        ("[" * 4097, "4097 characters, limit is 4096"),
        ('{"op": "subscribe", "topic": "\\ud800"}', "topic is '\\ud800'"),
        ('{"op": "\\ud800", "id": "\\ud800"}', "op is '\\ud800'"),
        ("[]", "a JSON object"),
        ("{}", "op is None"),
        ('{"op": {"x": 1}}', "op is {'x': 1}"),
        ('{"op": "subscribe"}', "topic is None"),
        ('{"op": "subscribe", "topic": 5}', "topic is 5"),
        ('{"op": "subscribe", "topic": ""}', "topic is ''"),
        (json.dumps({"op": "subscribe", "topic": "x" * 21}), "21 characters, limit is 20"),
        ('{"op": "subscribe", "topic": "a", "since": -1}', "since is -1"),
        ('{"op": "subscribe", "topic": "a", "since": true}', "since is True"),
        ('{"op": "subscribe", "topic": "secret.a"}', "not allowed"),
        ('{"op": "unsubscribe", "topic": null}', "topic is None"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_said_and_the_connection_stays(run, handler, message, error):
    async def main():
        async with talking(handler) as (_, client, say):
            await client.send(message)
            answer = json.loads(await client.recv())
            assert answer["op"] == "error"
            assert error in answer["error"]
            assert await say(op="ping") == {"op": "pong"}

    run(main)


def test_limits_of_topics_and_patterns(run):
    async def main():
        async with talking() as (_, _, say):
            for name in ("a", "b", "c.*", "a"):
                assert (await say(op="subscribe", topic=name))["op"] == "subscribed"
            assert "at most 3 topics" in (await say(op="subscribe", topic="d"))["error"]
            await say(op="unsubscribe", topic="a")
            assert (await say(op="subscribe", topic="d"))["op"] == "subscribed"
        async with talking() as (_, _, say):
            assert "pattern" in (await say(op="subscribe", topic="a.*", since=1))["error"]
        async with talking(Strict) as (_, _, say):
            assert "patterns" in (await say(op="subscribe", topic="a.*"))["error"]

    run(main)


def test_an_id_that_is_too_long_is_left_out(run):
    async def main():
        async with talking() as (_, _, say):
            assert await say(op="ping", id="x" * 65) == {"op": "pong"}
            assert await say(op="ping", id=10**70) == {"op": "pong"}
            assert await say(op="ping", id=[1]) == {"op": "pong"}

    run(main)
