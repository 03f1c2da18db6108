"""What backplanes over an engine do alike, with an engine that says what it is told to say."""

import asyncio
import json
import types

import pytest
from engines import Engine, needs
from joining import joined
from peers import until

import fastws
from fastws.backplane.remote import Interest, Remote, prefix_of, within
from fastws.backplane.roster import Roster


class Told(Remote):
    """An engine whose subscriptions bring what `comes` says when it is waited for: (subscription, number)."""

    def __init__(self, rules=()):
        self.got = []
        receiver = types.SimpleNamespace(
            rules=lambda: dict.fromkeys(rules, (0, 10, None)),
            receive=self.got.append,
            recovered=lambda name, history, retained, held: self.got.extend(["kept", *held]),
        )
        super().__init__(receiver, 1000)
        self.comes = []
        self.said = []

    async def start(self):
        pass

    async def session(self):
        pass

    async def subscribe(self, names):
        self.said.append(("subscribe", names))

    async def unsubscribe(self, names):
        self.said.append(("unsubscribe", sorted(names)))

    async def prepare(self, rule, limits):
        pass

    async def send(self, batch):
        return 0

    async def fetch(self, rule):
        return {"a.x": ([], [])}

    async def barrier(self):
        self.said.append("barrier")
        comes, self.comes = self.comes, []
        for by, number in comes:
            self.came("a.x", b"%d" % number, by)


def follow(engine, interest, added=(), removed=()):
    asyncio.run(engine._follow(interest, set(added), set(removed)))


def test_what_waits_for_an_earlier_subscription_is_taken_before_what_a_new_one_brings():
    engine, interest = Told(), Interest()
    follow(engine, interest, ["a.x"])
    engine.said.clear()
    engine.comes = [("a.*", 5), ("a.x", 3), ("a.x", 4), ("a.*", 6), ("a.x", 5)]
    follow(engine, interest, ["a.*"])
    # What comes twice is dropped by its number.
    assert engine.got == [b"3", b"4", b"5", b"5", b"6"]
    assert engine.said == [("subscribe", ["a.*"]), "barrier", ("unsubscribe", ["a.x"])]
    engine.got.clear()
    engine.comes = [("a.x", 8), ("a.*", 7), ("a.*", 8)]
    follow(engine, interest, [], ["a.*"])
    assert engine.got == [b"7", b"8", b"8"]


def test_of_two_new_subscriptions_the_earlier_one_is_taken_first():
    engine, interest = Told(), Interest()
    follow(engine, interest, ["a.*", "*.x"])
    ((_, (first, second)), *_) = engine.said
    # The later one was made when 1 and 2 had been published.
    engine, interest = Told(), Interest()
    engine.comes = [(second, 3), (first, 1), (first, 2), (first, 3)]
    follow(engine, interest, ["a.*", "*.x"])
    assert engine.got == [b"1", b"2", b"3", b"3"]


def test_what_is_held_back_while_what_is_kept_is_fetched_is_in_order():
    engine, interest = Told(rules=["a.*"]), Interest()
    follow(engine, interest, ["a.x"])
    engine.comes = [("a.*", 5), ("a.x", 4), ("a.x", 5)]
    follow(engine, interest, ["a.*"])
    assert engine.got == ["kept", b"4", b"5", b"5"]
    assert engine._held_size == 0


def test_what_is_held_back_is_bounded_and_let_go_of_when_a_session_ends(monkeypatch):
    monkeypatch.setattr("fastws.backplane.remote.MAX_HELD", 3)
    engine, interest = Told(), Interest()
    engine.comes = [("a.*", number) for number in range(1, 6)]
    follow(engine, interest, ["a.*"])
    assert engine.got == [b"1", b"2", b"3", b"4", b"5"]

    async def barrier():
        engine.came("a.x", b"6", "b.*")
        raise ConnectionError

    engine.barrier = barrier
    with pytest.raises(ConnectionError):
        follow(engine, interest, ["b.*"])
    assert engine.got[-1] == b"6"
    assert engine._held_size == 0


def test_a_barrier_of_nats_ends_while_messages_keep_coming():
    over_nats = pytest.importorskip("fastws.backplane.over_nats")

    async def main():
        engine = over_nats.NatsBackplane("nats://x", types.SimpleNamespace(receive=print), 1000)

        async def flush(timeout):
            pass

        engine._client = types.SimpleNamespace(flush=flush, pending_data_size=0)
        one = engine._subscriptions["x"] = over_nats.Subscription("x")
        one.upstream = types.SimpleNamespace(pending_msgs=3)
        message = types.SimpleNamespace(subject="fastws.0.0.x", data=b"x")
        engine.came = lambda *args: None
        waiting = asyncio.ensure_future(engine.barrier())
        for _ in range(3):
            # For each that is taken another one comes.
            await asyncio.sleep(0)
            assert not waiting.done()
            await engine._came(one, message)
        await asyncio.wait_for(waiting, 5)
        # A subscription that has ended is not waited for.
        waiting = asyncio.ensure_future(engine.barrier())
        await asyncio.sleep(0)
        del engine._subscriptions["x"]
        await asyncio.wait_for(waiting, 5)

    asyncio.run(main())


@pytest.mark.parametrize("run", ["uvloop"], indirect=True)
def test_a_connection_to_nats_that_fails_while_it_is_closed_leaves_no_task_behind(run, tmp_path):
    needs("nats")
    engine = Engine("nats", tmp_path)
    engine.start()

    def tasks():
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
        return names.count("Subscription._wait_for_msgs")

    async def main():
        async with joined(engine.url, 1) as (a,):
            client = a.backplane.engine._client
            before = tasks()

            class Failing:
                """A transport that fails between the end of its tasks and that of its subscriptions."""

                def __init__(self, transport):
                    self.transport = transport

                def __getattr__(self, name):
                    return getattr(self.transport, name)

                def __bool__(self):
                    self.transport.close()
                    raise ConnectionResetError

            async def barrier():
                del a.backplane.engine.barrier
                raise ConnectionResetError

            client._transport = Failing(client._transport)
            a.backplane.engine.barrier = barrier
            a.backplane.engine.want({"x"}, set())
            await until(lambda: a.backplane.stats.reconnects == 1)
            assert tasks() == before > 0

    try:
        run(main)
    finally:
        engine.stop()


@pytest.mark.parametrize(
    ("url", "prefix", "rest"),
    [
        ("redis://host", "fastws", "redis://host"),
        ("redis://host/1?prefix=a&db=2", "a", "redis://host/1?db=2"),
        ("rediss://u:p@host?x=%2F&prefix=b%3Ac", "b:c", "rediss://u:p@host?x=%2F"),
        ("unix:///path?prefix=d", "d", "unix:///path"),
        ("nats://host:4222", "fastws", "nats://host:4222"),
    ],
)
def test_a_url_names_the_prefix_and_the_library_gets_the_rest(url, prefix, rest):
    assert prefix_of(url) == (prefix, rest)


def test_a_wait_that_is_cancelled_when_its_answer_has_just_come_is_cancelled():
    async def main(turns):
        answer = asyncio.get_running_loop().create_future()

        async def answered():
            return await answer

        waiting = asyncio.ensure_future(within(5, answered()))
        await asyncio.sleep(0.01)
        answer.set_result(1)
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled() or turns > 1

    for turns in range(4):
        asyncio.run(main(turns))


def test_a_wait_that_takes_too_long_ends_what_it_waited_for():
    ended = []

    async def never():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def main():
        with pytest.raises(TimeoutError):
            await within(0.01, never())
        assert ended == [1]
        assert await within(5, asyncio.sleep(0, "x")) == "x"
        with pytest.raises(ZeroDivisionError):
            await within(5, fail())

    async def fail():
        return 1 / 0

    asyncio.run(main())


def test_options_that_redis_py_does_not_know_are_refused_at_once(run):
    async def main():
        with pytest.raises(ValueError, match=r"redis://127\.0\.0\.1\?nonsense=1.*nonsense"):
            await fastws.serve(on_message=print, port=0, backplane="redis://127.0.0.1?nonsense=1")

    run(main)


def test_what_was_lost_is_heard_with_the_last_word_too():
    gaps = []
    host = types.SimpleNamespace(gap=gaps.append)
    for said, heard in (({"op": "bye"}, []), ({"op": "bye", "lost": 3}, [None])):
        Roster(host, None).hear(types.SimpleNamespace(epoch="a" * 16, frame=json.dumps(said).encode()))
        assert gaps == heard
