"""A link between two servers of one host, with a wire that is drained by hand.

Its outbox stays within the limit whatever is published, and then everything is sent once or counted once.
"""

import collections

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from linking import GONE, LIMIT, Pair

from fastws.backplane.links import PING, message


@pytest.fixture
def pair():
    return Pair()


def test_what_an_outbox_has_no_room_for_is_sent_from_history_once(pair):
    pair.declare(pair.a, pair.b, history=1000)
    for number in range(1, 501):
        pair.publish(str(number))
    pair.rest()
    assert pair.numbers(pair.b) == list(range(1, 501))
    assert pair.to_b.most <= LIMIT
    assert (pair.a.stats.sent, pair.a.stats.dropped) == (500, 0)
    assert (pair.b.stats.received, pair.b.stats.missing, pair.b.stats.duplicates) == (500, 0, 0)
    # Those came late that were put off, and nobody had to be told.
    assert 0 < pair.b.stats.recovered < 500
    assert pair.gaps == []
    # From now on they go out at once again.
    pair.publish("501")
    assert not pair.outlet.behind
    pair.rest()
    assert pair.numbers(pair.b)[-1] == 501


def test_what_a_history_has_let_go_of_is_counted_once_at_each_end(pair):
    pair.declare(pair.a, pair.b, history=20)
    pair.publish("1")
    pair.rest()
    for number in range(2, 1001):
        pair.publish(str(number))
    pair.rest()
    assert pair.numbers(pair.b) == list(range(981, 1001))
    assert pair.a.stats.dropped == pair.b.stats.missing > 0
    assert pair.a.stats.sent + pair.a.stats.dropped == 1000
    assert pair.b.stats.received + pair.b.stats.missing == 1000
    assert None in pair.gaps


def test_a_history_that_was_asked_for_comes_in_parts_before_what_is_published_meanwhile(pair):
    pair.declare(pair.a, history=1000)
    for number in range(1, 401):
        pair.publish(str(number))
    pair.declare(pair.b, history=1000)
    pair.inlet._pings.append(pong := pair.loop.create_future())
    pair.to_a.write(message(PING))
    pair.to_a.drain()
    for number in range(401, 501):
        pair.publish(str(number))
    assert pair.to_b.most <= LIMIT // 2
    assert not pong.done()
    pair.drain()
    assert not pong.done()
    pair.rest()
    assert pong.done()
    assert pair.numbers(pair.b) == list(range(1, 501))
    # Only what was published after it was asked for is news.
    assert (pair.b.stats.received, pair.b.stats.missing, pair.b.stats.duplicates) == (100, 0, 0)
    assert pair.b.topics.find("t").received == 100


@pytest.mark.parametrize(("options", "key"), [({"history": 20_000}, False), ({"retain": 20_000}, True)])
def test_what_catching_up_costs_grows_with_what_is_kept_and_no_faster(pair, monkeypatch, options, key):
    looked = collections.Counter()

    class Counting:
        def __init__(self, kept):
            self.kept = kept

        def __getattr__(self, name):
            return getattr(self.kept, name)

        def part(self, place, count):
            looked["part"] += len(found := self.kept.part(place, count))
            return found

        def values(self):
            looked["values"] += len(found := self.kept.values())
            return found

        def entries(self):
            raise AssertionError("all that is kept was looked at")

    pair.declare(pair.a, **options)
    for number in range(20_000):
        pair.publish("x", key=str(number) if key else None)
    kept = pair.a.kept
    monkeypatch.setattr(pair.a, "kept", lambda name: Counting(kept(name)))
    pair.declare(pair.b, **options)
    for _ in range(100):
        pair.publish("y", key="y")
        pair.turn()
    pair.rest()
    monkeypatch.undo()
    # In hundreds of parts.
    assert sum(looked.values()) < 100_000
    assert pair.numbers(pair.b) == pair.numbers(pair.a)
    assert pair.values(pair.b) == pair.values(pair.a)


def test_what_is_asked_for_again_after_a_cut_is_news_from_where_it_was(pair):
    pair.declare(pair.a, pair.b, history=1000)
    for number in range(1, 11):
        pair.publish(str(number))
    pair.rest()
    pair.cut()
    for number in range(11, 301):
        pair.publish(str(number))
    pair.link()
    for number in range(301, 401):
        pair.publish(str(number))
    pair.rest()
    assert pair.numbers(pair.b) == list(range(1, 401))
    assert (pair.b.stats.received, pair.b.stats.missing, pair.b.stats.duplicates) == (400, 0, 0)


def test_a_history_that_is_asked_for_twice_is_whole_and_its_messages_are_news_once(pair):
    pair.declare(pair.a, history=1000)
    for number in range(1, 401):
        pair.publish(str(number))
    pair.declare(pair.b, history=10)
    pair.publish("401")
    pair.drain(1500)
    pair.loop.turn()
    pair.declare(pair.b, history=1000)
    pair.publish("402")
    pair.rest()
    assert pair.numbers(pair.b) == list(range(1, 403))
    assert (pair.b.stats.received, pair.b.stats.missing, pair.b.stats.duplicates) == (2, 0, 0)


def test_what_came_late_before_a_history_was_asked_for_again_is_no_news_again(pair):
    pair.declare(pair.a, pair.b, history=1000)
    for number in range(1, 401):
        pair.publish(str(number))
    while pair.b.stats.recovered < 50:
        pair.turn()
    assert pair.outlet.behind
    pair.declare(pair.b, history=2000)
    pair.rest()
    assert pair.numbers(pair.b) == list(range(1, 401))
    assert (pair.b.stats.received, pair.b.stats.duplicates, pair.a.stats.sent) == (400, 0, 400)


def test_what_servers_kept_of_one_that_is_gone_is_past(pair):
    pair.declare(pair.a, history=1000)
    pair.publish("1")
    entries = [(GONE, number, float(number), None, b"\x81\x01x") for number in range(1, 301)]
    pair.a.recovered("t", entries, [], [])
    pair.declare(pair.b, history=1000)
    pair.publish("2")
    pair.rest()
    assert [entry[:2] for entry in pair.b.kept("t").entries()[0]] == [
        entry[:2] for entry in pair.a.kept("t").entries()[0]
    ]
    assert len(pair.b.kept("t").entries()[0]) == 302
    assert (pair.b.stats.received, pair.b.stats.missing) == (1, 0)


def test_values_that_an_outbox_had_no_room_for_come_late_and_their_messages_count_as_lost(pair):
    pair.declare(pair.a, pair.b, retain=300)
    for number in range(1, 501):
        pair.publish(str(number), key=str(number % 250))
    pair.rest()
    assert pair.values(pair.b) == pair.values(pair.a)
    assert len(pair.values(pair.b)) == 250
    pair.publish("501", key="x")
    pair.rest()
    assert pair.a.stats.dropped == pair.b.stats.missing > 0
    assert pair.a.stats.sent + pair.a.stats.dropped == 501


def test_values_that_were_asked_for_come_in_parts_beside_what_is_published(pair):
    pair.declare(pair.a, retain=300)
    for number in range(1, 301):
        pair.publish(str(number), key=str(number))
    pair.declare(pair.b, retain=300)
    assert pair.to_b.most <= LIMIT // 2
    pair.publish("301", key="1")
    pair.loop.turn()
    pair.drain()
    # There was room for it, so it did not have to wait for them.
    assert pair.b.stats.received == 1
    assert len(pair.values(pair.b)) < 300
    pair.rest()
    assert pair.values(pair.b) == pair.values(pair.a)
    assert (pair.a.stats.dropped, pair.b.stats.missing) == (0, 0)


def test_values_outlive_the_history_that_let_go_of_them(pair):
    pair.declare(pair.a, pair.b, history=10, retain=300)
    for number in range(1, 501):
        pair.publish(str(number), key=str(number % 250))
    pair.rest()
    assert pair.values(pair.b) == pair.values(pair.a)
    assert len(pair.values(pair.b)) == 250


def test_a_message_larger_than_the_outbox_is_dropped_and_those_after_it_come(pair):
    pair.declare(pair.a, pair.b, history=10)
    for text in ("1", "2" * LIMIT, "3"):
        pair.publish(text)
    pair.rest()
    assert pair.numbers(pair.b) == [1, 3]
    assert (pair.a.stats.sent, pair.a.stats.dropped, pair.b.stats.missing) == (2, 1, 1)
    # The same of what is past; and one that needs all of the outbox goes when that is empty.
    late = Pair()
    late.declare(late.a, history=10)
    for text in ("1" * (LIMIT * 3 // 4), "2" * LIMIT, "3" * (LIMIT * 3 // 4), "4"):
        late.publish(text)
    late.declare(late.b, history=10)
    late.rest()
    assert late.numbers(late.b) == [1, 3, 4]
    assert late.to_b.most <= LIMIT
    assert (late.a.stats.dropped, None in late.gaps) == (1, True)


def test_a_value_larger_than_the_outbox_is_counted_once(pair):
    pair.declare(pair.a, pair.b, retain=10)
    for text in ("1", "2" * LIMIT, "3"):
        pair.publish(text, key=text[0])
    pair.rest()
    assert pair.values(pair.b) == {("1", 1), ("3", 3)}
    assert pair.a.stats.dropped == 2  # 3 came before the outbox was looked at again
    assert pair.a.stats.sent == 1


def test_what_no_packet_holds_does_not_cost_the_link(pair):
    pair.declare(pair.a, history=10, retain=10)
    pair.publish("1")
    pair.publish("2", key="k" * 70_000)
    pair.publish("3")
    pair.declare(pair.b, history=10, retain=10)
    pair.rest()
    assert pair.numbers(pair.b) == [1, 3]
    assert pair.a.stats.dropped == 1


def test_a_topic_whose_messages_wait_goes_before_others(pair):
    for number in range(100):
        pair.declare(pair.a, name=f"past{number}", history=10)
        for text in range(10):
            pair.publish(str(text), name=f"past{number}")
    pair.declare(pair.a, pair.b, name="hot", history=100)
    for number in range(100):
        pair.declare(pair.b, name=f"past{number}", history=10)
    for number in range(1, 1001):
        pair.publish(str(number), name="hot")
        if number % 50 == 0:
            pair.turn()
    pair.rest()
    assert (pair.a.stats.dropped, pair.b.stats.missing) == (0, 0)
    assert pair.numbers(pair.b, "hot") == list(range(901, 1001))
    assert all(len(pair.numbers(pair.b, f"past{number}")) == 10 for number in range(100))


def test_what_is_wanted_no_more_is_not_caught_up_in(pair):
    pair.declare(pair.a, pair.b, history=1000)
    for number in range(1, 501):
        pair.publish(str(number))
    assert list(pair.outlet.behind) == ["t"]
    pair.inlet.want(set(), {"t"})
    pair.to_a.drain()
    assert not pair.outlet.behind
    pair.rest()
    stats = pair.a.stats
    assert stats.sent > 0 < stats.dropped
    assert stats.sent + stats.dropped == 500


def test_what_has_come_of_a_history_that_is_wanted_no_more_is_forgotten(pair):
    pair.declare(pair.a, history=1000)
    for number in range(1, 501):
        pair.publish(str(number))
    pair.declare(pair.b, history=1000)
    pair.drain()
    assert pair.inlet._kept
    pair.inlet.want(set(), {"t"})
    pair.rest()
    assert not pair.inlet._kept
    # Asked for again it is whole, and no news.
    pair.inlet.want({"t"}, set())
    pair.rest()
    assert pair.numbers(pair.b) == list(range(1, 501))
    assert pair.b.stats.received == 0


def test_what_is_queued_when_a_link_is_lost_counts_once(pair):
    pair.declare(pair.b, history=1)
    for number in range(1, 11):
        pair.publish(str(number))
    pair.rest()
    for number in range(11, 31):
        pair.publish(str(number))
    pair.cut()
    stats = pair.a.stats
    assert (stats.sent, stats.in_doubt, stats.dropped) == (10, 20, 0)


def test_what_waits_when_a_link_is_lost_counts_as_dropped(pair):
    pair.declare(pair.a, pair.b, history=1000)
    for number in range(1, 501):
        pair.publish(str(number))
    sent = pair.a.stats.sent
    pair.cut()
    assert 0 < pair.a.stats.dropped == 500 - sent


def test_what_waits_at_the_end_is_sent_before_the_link_is_closed(pair):
    pair.declare(pair.a, pair.b, history=1000)
    for number in range(1, 501):
        pair.publish(str(number))
    pair.outlet.bye()
    assert not pair.to_b.closing
    pair.rest()
    assert pair.numbers(pair.b) == list(range(1, 501))
    assert pair.to_b.closing
    assert pair.inlet.clean


PLAIN, VALUES, SHORT, LONG, BOTH = range(5)
KEPT = {
    VALUES: {"retain": 5},
    SHORT: {"history": 3},
    LONG: {"history": 10_000},
    BOTH: {"history": 5, "retain": 7},
}
STEPS = st.one_of(
    st.tuples(st.sampled_from([PLAIN, *KEPT]), st.integers(1, 60), st.integers(0, 300)),
    st.tuples(st.just("drain"), st.integers(1, 2 * LIMIT), st.booleans()),
    st.tuples(st.just("declare"), st.sampled_from([*KEPT]), st.just(0)),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=30))
@example([(BOTH, 60, 100), ("drain", 2000, True), (BOTH, 60, 300), (VALUES, 60, 100), (PLAIN, 60, 100)])
@example([(LONG, 60, 300), ("declare", LONG, 0), (LONG, 60, 300), ("drain", 4000, False), (LONG, 60, 300)])
def test_an_outbox_is_bounded_and_everything_is_sent_once_or_counted_once(steps):
    pair = Pair()
    # Nobody is behind in what it does not keep at the publisher.
    pair.declare(pair.b, name=str(PLAIN), history=10_000)
    for name, options in KEPT.items():
        pair.declare(pair.a, name=str(name), **options)
    declared = {PLAIN}
    due = 0
    for step, number, more in steps:
        if step == "drain":
            pair.drain(number)
            if more:
                pair.loop.turn()
        elif step == "declare":
            if number not in declared:
                declared.add(number)
                pair.declare(pair.b, name=str(number), **KEPT[number])
        else:
            for one in range(number):
                pair.publish("x" * more, name=str(step), key=str(one % 9))
            due += number * (step in declared)
    pair.rest()
    for name in declared:
        pair.publish("last", name=str(name))
        pair.rest()
    due += len(declared)
    assert not pair.outlet.behind
    assert pair.to_b.most <= LIMIT
    # Both ends tell the same, but of those that were lost before the first that came.
    assert pair.a.stats.sent + pair.a.stats.dropped == due
    assert pair.b.stats.received == pair.a.stats.sent
    assert pair.b.stats.missing <= pair.a.stats.dropped
    assert (pair.b.stats.duplicates, pair.b.stats.malformed) == (0, 0)
    for name in declared - {PLAIN}:
        assert pair.numbers(pair.b, str(name)) == pair.numbers(pair.a, str(name))
        assert pair.values(pair.b, str(name)) == pair.values(pair.a, str(name))
