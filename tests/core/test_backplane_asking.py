"""What a server asks another one of its host for: in messages of a bounded size, of which few wait."""

import pytest
from linking import DEFAULTS, THERE, Pair

from fastws._packets import CONTROL_TOPIC
from fastws.backplane.links import WANT, message


@pytest.fixture
def pair():
    return Pair()


def test_names_are_asked_for_in_messages_of_a_bounded_size_and_those_that_cannot_be_said_are_left_out(pair):
    names = {f"{number}" + "\u4e2d" * 1000 for number in range(3000)} | {
        f"n{number}" for number in range(3000)
    }
    taken = []
    take, pair.outlet.take = pair.outlet.take, lambda kind, body: (taken.append(len(body)), take(kind, body))
    before = set(pair.outlet.names)
    pair.inlet.want(names | {"\udc80", "x\ud800y", "a" * 70_000, "k" * 65_535}, set())
    pair.to_a.drain()
    assert pair.outlet.names - before == names | {"k" * 65_535}
    assert len(taken) >= 6
    # Names, and quotes and commas about them.
    assert max(taken) < 1024 * 1024 + 10_000
    pair.inlet.want(set(), names)
    pair.to_a.drain()
    assert pair.outlet.names == before | {"k" * 65_535}


def test_what_servers_tell_each_other_is_asked_for_first(pair):
    pair.b._wanted |= {f"!{number}" for number in range(3000)}
    pair.cut()
    asked = []
    pair.a.connected = lambda epoch: asked.append(set(pair.outlet.names))
    pair.link()
    assert CONTROL_TOPIC in asked[0]
    assert f"{CONTROL_TOPIC}.{THERE}" in asked[0]
    assert len(asked[0]) < 2000


def test_what_waits_for_who_does_not_read_is_bounded_by_what_is_wanted(pair):
    def change(name, added):
        (pair.b._wanted.add if added else pair.b._wanted.remove)(name)
        pair.inlet.want({name} if added else set(), set() if added else {name})

    change("gone", True)
    pair.to_a.drain()
    for number in range(50_000):
        change(f"{number:0100}", True)
        change(f"{number:0100}", False)
    change("new", True)
    change("gone", False)
    assert len(pair.to_a.waiting) < 1024 * 1024 + 1000
    assert len(pair.inlet._said) < 10
    pinging = pair.inlet.ping()
    pong = pinging.send(None)
    assert not pong.done()
    pair.rest()
    assert pong.done()
    pinging.close()
    assert pair.outlet.names == pair.b.wanted()
    assert "new" in pair.outlet.names
    change("next", True)
    pair.to_a.drain()
    assert "next" in pair.outlet.names


def test_what_is_declared_while_the_other_end_does_not_read_is_asked_for_again(pair):
    pair.declare(pair.a, history=1000)
    pair.declare(pair.b, history=10)
    for number in range(20):
        pair.publish(str(number))
    pair.rest()
    pair.to_a.write(message(WANT, b'{"add": [], "remove": [], "keep": []}'.ljust(1024 * 1024)))
    pair.b.topics.declare("t", {**DEFAULTS, "retain": 0, "history": 1000, "history_seconds": None})
    pair.b.flush()
    pair.rest()
    assert pair.numbers(pair.b) == list(range(1, 21))
