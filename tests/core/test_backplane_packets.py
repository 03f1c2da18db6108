"""What travels between servers, without sockets: packets, names, delays; and what is refused."""

import logging
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastws
from fastws import _relaying
from fastws._packets import CONTROL_TOPIC, HEADER_SIZE, MAX_FRAME, MAX_NAME, pack, unpack
from fastws._topics import Topics
from fastws.backplane import engine_of
from fastws.backplane.engine import BackplaneStats, Delays
from fastws.backplane.remote import Interest
from fastws.backplane.roster import Roster

EPOCH, OTHER = "00112233445566ff", "ff" * 8
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def topics():
    return Topics(logging.getLogger("test"), EPOCH)


def test_a_url_that_is_none_is_refused():
    for url in ("http://x", "local:", "local://host/x", "local:///x?y=1"):
        with pytest.raises(ValueError, match="backplane is"):
            fastws.serve(print, backplane=url)
    with pytest.raises(TypeError):
        fastws.serve(print, backplane=7)


def test_the_environment_names_a_backplane(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTWS_BACKPLANE", raising=False)
    assert engine_of(None) is None
    monkeypatch.setenv("FASTWS_BACKPLANE", "local:///x")
    assert engine_of(None) is not None
    assert engine_of("") is None


# ---------------------------------------------------------------- packets


@given(
    NAMES,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**40),
    st.none() | NAMES,
    st.binary(max_size=300),
    st.sampled_from([None, True, False]),
    st.booleans(),
)
def test_a_packet_says_what_was_put_into_it(topic, sequence, seconds, key, frame, compress, control):
    data = pack(topic, EPOCH, sequence, float(seconds), key, frame, compress, control)
    packet = unpack(data)
    assert (packet.topic, packet.key, packet.frame) == (topic, key, frame)
    assert (packet.epoch, packet.sequence, packet.wall) == (EPOCH, sequence, float(seconds))
    assert (packet.compress, packet.control) == (compress, control)
    assert len(data) == 34 + len(topic.encode()) + len((key or "").encode()) + len(frame)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_packet_or_a_value_error(data):
    try:
        packet = unpack(data)
    except ValueError:
        return
    assert len(packet.topic.encode()) + len(packet.frame) <= len(data)


@given(st.data())
def test_a_packet_that_was_cut_or_grew_is_refused(data):
    whole = pack("topic", EPOCH, 1, 1.0, "key", b"frame")
    cut = data.draw(st.integers(0, len(whole) - 1))
    for wrong in (whole[:cut], whole + b"x"):
        with pytest.raises(ValueError, match="packet has"):
            unpack(wrong)


def test_another_version_is_refused():
    whole = pack("topic", EPOCH, 1, 1.0, None, b"frame")
    with pytest.raises(ValueError, match="version 2, expected 1"):
        unpack(b"\x02" + whole[1:])
    assert HEADER_SIZE == 34


def test_what_is_too_long_for_a_packet_is_refused():
    with pytest.raises(ValueError, match="topic and key"):
        pack("x" * (MAX_NAME + 1), EPOCH, 1, 1.0, None, b"")
    with pytest.raises(ValueError, match="topic and key"):
        pack("x", EPOCH, 1, 1.0, "k" * (MAX_NAME + 1), b"")
    with pytest.raises(ValueError, match="limit is 67108864"):
        pack("x", EPOCH, 1, 1.0, None, bytes(MAX_FRAME + 1))


# ---------------------------------------------------------------- numbers


OPTIONS = {"policy": "close", "max_bytes": 1, "max_frames": 1, "on_join": None, "on_leave": None}


def kept_topic(here, **options):
    return here.declare("t", {**OPTIONS, "retain": 0, "history": 10, "history_seconds": None, **options})


def receive(here, epoch, sequence, frame=b"\x81\x01x", wall=1.0, key=None):
    return _relaying.receive(here, "t", epoch, sequence, wall, key, frame, None)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x81",
        b"\x81\x02x",  # less than it says
        b"\x81\x01xy",
        b"\x01\x01x",  # a fragment
        b"\x80\x01x",
        b"\x89\x01x",  # a Ping
        b"\xc1\x01x",  # RSV1
        b"\x81\x81abcdx",  # masked
        b"\x81\x7e\x00\x01x",  # not the shortest length
        b"\x81\xff" + b"\xff" * 8,
    ],
)
def test_what_is_no_whole_unmasked_data_message_is_refused(frame):
    here = topics()
    topic = kept_topic(here)
    with pytest.raises(ValueError, match="frame of"):
        receive(here, OTHER, 1, frame)
    assert topic.received == 0


def test_numbers_of_a_publisher_only_rise_and_what_is_missing_is_counted():
    here = topics()
    topic = kept_topic(here)
    assert [receive(here, OTHER, n) for n in (5, 6, 6, 5, 9, 7, 10)] == [0, 0, -1, -1, 2, -1, 0]
    assert receive(here, "aa" * 8, 1) == 0
    assert (topic.received, topic.missing) == (5, 2)


def test_what_nobody_wants_is_not_kept_in_mind():
    here = topics()
    assert receive(here, OTHER, 1) == -2
    assert here.find("t") is None


def entries(*numbers, epoch=OTHER):
    return [(epoch, n, float(n), None, b"\x81\x01%d" % n) for n in numbers]


def numbers(topic):
    return [entry[1] for entry in topic.kept.entries()[0]]


def test_what_was_missed_is_recovered_in_order_and_once():
    here = topics()
    topic = kept_topic(here)
    for n in (1, 2):
        receive(here, OTHER, n)
    # 3 and 4 were missed; 5 waits to be received.
    assert _relaying.recover(here, "t", entries(1, 2, 3, 4, 5), [], {OTHER: 5}) == (2, 0)
    assert receive(here, OTHER, 5) == 0
    assert receive(here, OTHER, 4) == -1
    assert numbers(topic) == [1, 2, 3, 4, 5]
    assert (topic.received, topic.missing) == (5, 0)


def test_what_is_older_than_all_that_came_is_for_the_history_only():
    here = topics()
    topic = kept_topic(here)
    assert _relaying.recover(here, "t", entries(1, 2, 3, 4), [], {OTHER: 4}) == (0, 0)
    assert receive(here, OTHER, 4) == 0
    assert numbers(topic) == [1, 2, 3, 4]
    assert receive(here, OTHER, 3) == -1


def test_a_hole_in_what_was_kept_counts_as_missing():
    here = topics()
    kept_topic(here)
    receive(here, OTHER, 1)
    assert _relaying.recover(here, "t", entries(4, 6), [], {}) == (2, 3)


def test_merging_keeps_the_newest_of_a_history_and_numbers_rise():
    here = topics()
    topic = kept_topic(here, history=4)
    for n in (3, 7):
        receive(here, OTHER, n)
    _relaying.recover(here, "t", entries(1, 2, 3, 4, 5, 6, 7), [], {})
    assert numbers(topic) == [4, 5, 6, 7]


@given(st.permutations([(OTHER, 1, 4.0), (OTHER, 2, 4.0), ("aa" * 8, 7, 4.0), ("bb" * 8, 9, 3.0)]))
def test_servers_agree_on_what_is_retained_whatever_came_first(order):
    here = topics()
    topic = kept_topic(here, retain=5, history=None)
    for epoch, sequence, wall in order:
        _relaying.recover(here, "t", [], [(epoch, sequence, wall, "k", b"\x81\x01x")], {})
    ((epoch, sequence, *_),) = topic.kept.entries()[1]
    assert (epoch, sequence) == (OTHER, 2)


def test_values_that_are_let_go_of_are_those_published_first_in_whatever_order_they_came():
    here = topics()
    topic = kept_topic(here, retain=3, history=None)
    values = [(OTHER, n, float(n), str(n), b"\x81\x01x") for n in range(1, 7)]
    _relaying.recover(here, "t", [], values[3:5], {})
    _relaying.recover(here, "t", [], values[:3] + values[5:], {})
    assert [entry[1] for entry in topic.kept.entries()[1]] == [4, 5, 6]
    receive(here, OTHER, 7, wall=7.0, key="7")
    assert [entry[1] for entry in topic.kept.entries()[1]] == [5, 6, 7]


def test_a_topic_that_is_declared_to_retain_less_lets_go_of_the_oldest_values():
    here = topics()
    kept_topic(here, retain=10)
    for n in range(1, 11):
        receive(here, OTHER, n, wall=float(n), key=str(n))
    topic = kept_topic(here, retain=2)
    assert [entry[1] for entry in topic.kept.entries()[1]] == [9, 10]


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 20), st.integers(1, 7))
def test_a_history_is_read_in_parts_from_places_that_last(bursts, history, size):
    here = topics()
    topic = kept_topic(here, history=history)
    found, place, last = [], 0, 0
    for burst in bursts:
        for _ in range(burst):
            last += 1
            receive(here, OTHER, last)
        place = max(place, topic.kept.begin)
        while part := topic.kept.part(place, size):
            found += [entry[1] for entry in part]
            place += len(part)
        assert found[-history:] == numbers(topic) == list(range(max(1, last - history + 1), last + 1))
        assert topic.kept.place_behind(OTHER, last) == place
        assert topic.kept.place_behind(OTHER, last - 1) == place - 1
        assert topic.kept.place_behind(OTHER, 0) == topic.kept.begin
    assert found == sorted(set(found))


def test_places_are_new_when_messages_come_between_others_or_a_topic_is_declared_anew():
    here = topics()
    topic = kept_topic(here)
    receive(here, OTHER, 5)
    orders = [topic.kept.order]
    _relaying.recover(here, "t", entries(1, 2, 5), [], {})
    orders.append(topic.kept.order)
    _relaying.recover(here, "t", entries(1, 2, 5), [], {})
    assert topic.kept.order == orders[-1]
    topic = kept_topic(here, history=2)
    orders.append(topic.kept.order)
    assert len(set(orders)) == 3
    assert numbers(topic) == [2, 5]


def test_publishers_of_which_nothing_is_kept_any_more_are_forgotten_beyond_a_bound():
    here = topics()
    topic = kept_topic(here, history=10)
    for number in range(3000):
        _relaying.recover(here, "t", entries(1, 2, epoch=f"{number:016x}"), [], {})
        assert len(topic.kept.merged) <= 1024
    assert receive(here, f"{0:016x}", 5) == 0
    assert receive(here, f"{2999:016x}", 5) == 2
    # What came by way of another's history is not kept twice.
    assert receive(here, f"{2998:016x}", 2) == -1
    assert f"{2998:016x}" in topic.kept.merged


def test_what_was_kept_of_a_topic_that_nobody_wants_any_more_leaves_no_trace():
    here = topics()
    kept_topic(here, history=None)
    assert _relaying.recover(here, "t", entries(1, 2), [], {}) == (0, 0)
    kept_topic(here)
    assert receive(here, OTHER, 9) == 0
    assert here.find("t").missing == 0


class Nobody:
    """A relay that hands nothing on."""

    def interest(self, name):
        pass

    def published(self, *message):
        pass


def publish(here, name):
    return here.publish_message(name, "x", None, None, None, None).sequence


def test_numbers_outlive_forgotten_topics_and_are_not_used_twice():
    here = topics()
    here.attach(Nobody())
    assert [publish(here, "a") for _ in range(3)] == [1, 2, 3]
    assert here.find("a") is None
    assert here.sequence_of("a") == 3
    for number in range(65_536):
        assert publish(here, f"t{number}") == 1
    # The number of "a" was the first to be forgotten; it goes on above, as does what is not known.
    assert here.sequence_of("a") == 3
    assert publish(here, "a") == 4
    assert publish(here, "new") == 4
    assert publish(here, "t65535") == 2


def test_a_server_that_falls_silent_is_gone_and_may_have_lost_something(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("fastws.backplane.roster.time.monotonic", lambda: now[0])
    gaps = []
    host = types.SimpleNamespace(
        epoch=EPOCH,
        stats=BackplaneStats(),
        engine=types.SimpleNamespace(up=False),
        gap=gaps.append,
    )
    roster = Roster(host, topics())
    roster.hear(unpack(pack(CONTROL_TOPIC, OTHER, 1, 1.0, None, b'{"op":"here"}', None, True)))
    now[0] += 14
    assert roster.others == {OTHER}
    now[0] += 2
    assert roster.others == set()
    assert gaps == [None]
    roster.hear(unpack(pack(CONTROL_TOPIC, OTHER, 2, 1.0, None, b'{"op":"here","lost":3}', None, True)))
    assert gaps == [None, None]
    roster.hear(unpack(pack(CONTROL_TOPIC, OTHER, 3, 1.0, None, b'{"op":"bye"}', None, True)))
    assert roster.others == set()
    assert gaps == [None, None]


@pytest.mark.parametrize("said", [b"", b"[]", b"[" * 100_000, b"\xff", b" " * 300_000])
def test_what_no_server_says_is_refused(said):
    host = types.SimpleNamespace(epoch=EPOCH, stats=BackplaneStats(), engine=types.SimpleNamespace(up=False))
    roster = Roster(host, topics())
    with pytest.raises(ValueError):
        roster.hear(unpack(pack(CONTROL_TOPIC, OTHER, 1, 1.0, None, said, None, True)))
    assert roster.others == set()


# ---------------------------------------------------------------- names and delays


def test_a_name_that_a_pattern_matches_is_not_asked_for_twice():
    interest = Interest()
    assert interest.change({"a.b", "c"}, set()) == ({"a.b", "c"}, set())
    assert interest.change({"a.*"}, set()) == ({"a.*"}, {"a.b"})
    assert interest.change({"a.c"}, set()) == (set(), set())
    assert interest.change(set(), {"a.b"}) == (set(), set())
    assert interest.change(set(), {"a.*"}) == ({"a.c"}, {"a.*"})
    assert interest.change(set(), {"a.c", "c"}) == (set(), {"a.c", "c"})
    assert interest.current == set()


def test_delays_grow_to_a_bound_and_differ():
    delays = Delays(1.0, 8.0)
    for most in (1, 2, 4, 8, 8):
        assert most / 2 <= delays.next() <= most
    delays.reset()
    assert delays.next() <= 1
    assert len({Delays().next() for _ in range(5)}) > 1


@given(NAMES.filter(bool))
def test_a_topic_of_nats_is_a_subject_and_back(name):
    nats = pytest.importorskip("fastws.backplane.over_nats")
    subject = nats.subject_of(name.replace("*", "-"))
    assert "".join(set(subject)).isascii()
    assert not set(subject) & set(" \t\r\n*>")
    assert "" not in subject.split(".")
    assert ".".join(nats.decoded(token) for token in subject.split(".")) == name.replace("*", "-")
