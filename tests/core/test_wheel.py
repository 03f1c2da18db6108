"""The timing wheel against a dictionary of deadlines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastws._wheel import TimingWheel

BUCKETS = 1024
SLOTS = st.integers(0, 5) | st.integers(0, 200)
# Beside now, around a revolution and several, so that deadlines share buckets.
DISTANCES = st.sampled_from(
    [*range(-2, 4), *(n * BUCKETS + d for n in (1, 2, 3) for d in (-1, 0, 1))]
) | st.integers(0, 5000)


class Model:
    """What the wheel promises."""

    def __init__(self):
        self.wheel = TimingWheel()
        self.deadlines = {}
        self.now = 0

    def set(self, slot, tick):
        self.wheel.set(slot, tick)
        self.deadlines[slot] = max(tick, self.now + 1)

    def clear(self, slot):
        self.wheel.clear(slot)
        self.deadlines.pop(slot, None)

    def take(self, tick):
        taken = self.wheel.take(tick)
        due = {slot for slot, deadline in self.deadlines.items() if deadline <= tick}
        assert len(taken) == len(set(taken))
        assert set(taken) == due
        for slot in due:
            del self.deadlines[slot]
        self.now = max(self.now, tick)
        return taken

    def check_next(self):
        tick = self.wheel.next()
        if not self.deadlines:
            assert tick is None
        else:
            # Early is a needless look, at most one for each revolution; late would be a missed deadline.
            assert self.now < tick <= min(self.deadlines.values())
            assert tick % BUCKETS in {deadline % BUCKETS for deadline in self.deadlines.values()}


class WheelMachine(RuleBasedStateMachine):
    @initialize(now=st.sampled_from([0, 1, 1023, 1024, 10**6, 2**31]))
    def start(self, now):
        self.model = Model()
        self.model.take(now)

    @rule(slot=SLOTS, distance=DISTANCES)
    def set(self, slot, distance):
        self.model.set(slot, max(0, self.model.now + distance))

    @rule(slot=SLOTS)
    def clear(self, slot):
        self.model.clear(slot)

    @rule(distance=DISTANCES)
    def take(self, distance):
        self.model.take(max(0, self.model.now + distance))

    @rule()
    def take_the_next_one(self):
        tick = self.model.wheel.next()
        if tick is not None:
            self.model.take(tick)

    @precondition(lambda self: self.model.deadlines)
    @rule()
    def run_until_empty(self):
        looks = 0
        while self.model.deadlines:
            self.model.take(self.model.wheel.next())
            looks += 1
            assert looks < 5000

    @invariant()
    def next_is_never_late(self):
        if hasattr(self, "model"):
            self.model.check_next()


TestWheelIsADictionaryOfDeadlines = WheelMachine.TestCase
TestWheelIsADictionaryOfDeadlines.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)


@given(st.dictionaries(SLOTS, st.integers(0, 4000)), st.integers(1, 2500))
def test_every_deadline_comes_once_and_not_early_whatever_the_step(deadlines, step):
    wheel = TimingWheel()
    for slot, tick in deadlines.items():
        wheel.set(slot, tick)
    came = {}
    tick = 0
    while wheel.next() is not None:
        tick += step
        for slot in wheel.take(tick):
            assert slot not in came
            came[slot] = tick
    for slot, deadline in deadlines.items():
        due = max(deadline, 1)
        assert due <= came[slot] < due + step
    assert came.keys() == deadlines.keys()


def test_an_empty_wheel_has_nothing_due():
    wheel = TimingWheel()
    assert wheel.next() is None
    assert wheel.take(0) == wheel.take(10**6) == []
    wheel.clear(0)
    wheel.clear(10**9)


def test_a_deadline_that_has_passed_is_due_at_the_next_tick():
    wheel = TimingWheel()
    assert wheel.take(100) == []
    wheel.set(1, 50)
    assert wheel.next() == 101
    assert wheel.take(100) == []
    assert wheel.take(101) == [1]


def test_a_deadline_is_moved_not_added():
    wheel = TimingWheel()
    wheel.set(1, 10)
    wheel.set(1, 20)
    wheel.set(1, 15)
    assert wheel.take(14) == []
    assert wheel.take(30) == [1]
    assert wheel.take(30) == []


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 2, 1], [2, 1, 3]])
def test_a_slot_leaves_a_shared_bucket_without_its_neighbours(order):
    for gone in order:
        wheel = TimingWheel()
        for slot in order:
            wheel.set(slot, 7 + BUCKETS * slot)
        wheel.clear(gone)
        assert sorted(wheel.take(7 + BUCKETS * 4)) == sorted(set(order) - {gone})


def test_a_deadline_a_revolution_away_does_not_come_a_revolution_early():
    wheel = TimingWheel()
    wheel.set(1, 5 + BUCKETS)
    for tick in range(5 + BUCKETS):
        assert wheel.take(tick) == []
    assert wheel.take(5 + BUCKETS) == [1]


@pytest.mark.parametrize("jump", [BUCKETS - 1, BUCKETS, BUCKETS + 1, 10 * BUCKETS + 3, 2**31])
def test_a_clock_that_stood_still_misses_nothing(jump):
    wheel = TimingWheel()
    for slot in range(2000):
        wheel.set(slot, slot)
    taken = wheel.take(jump)
    assert sorted(taken) == list(range(min(jump + 1, 2000)))
    assert sorted(wheel.take(jump + 2000)) == list(range(min(jump + 1, 2000), 2000))
    assert wheel.next() is None


def test_a_clock_that_goes_back_takes_nothing():
    wheel = TimingWheel()
    wheel.take(100)
    wheel.set(1, 101)
    assert wheel.take(50) == []
    assert wheel.take(101) == [1]


def test_each_slot_of_many_comes_at_its_own_tick():
    wheel = TimingWheel()
    count = 20_000
    ticks = [1 + slot * 7919 % 3000 for slot in range(count)]
    for slot, tick in enumerate(ticks):
        wheel.set(slot, tick)
    for now in range(1, 3001):
        assert all(ticks[slot] == now for slot in wheel.take(now))
    assert wheel.next() is None


@pytest.mark.parametrize("slot", [2**20, 2**32 - 1])
def test_a_slot_out_of_range_is_refused(slot):
    wheel = TimingWheel()
    with pytest.raises(ValueError, match=f"slot is {slot}, limit is {2**20 - 1}"):
        wheel.set(slot, 1)


def test_the_last_tick_of_all_is_a_deadline_like_others():
    wheel = TimingWheel()
    wheel.set(1, 2**32 - 2)
    wheel.set(1, 5)
    assert wheel.take(5) == [1]
    assert wheel.next() is None
