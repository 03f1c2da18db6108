"""What a topic keeps, and who gets which of it: positions of several publishers, known and unknown."""

import time

import pytest

from fastws._keeping import Kept

A, B, GONE, OTHER = "a" * 16, "b" * 16, "c" * 16, "d" * 16


@pytest.mark.parametrize(
    ("since", "replayed", "complete"),
    [
        ({A: 2, B: 1}, 0, True),
        ({A: 1}, 2, True),
        ({A: 1, GONE: 1}, 2, False),
        ({A: 2, B: 1, GONE: 0}, 0, True),
        ({A: 1, B: 1, GONE: 0, OTHER: 0}, 1, True),
        ({GONE: 0}, 3, True),
        ({}, 3, True),
        ({GONE: 1}, 0, False),
        ({GONE: 1, OTHER: 0}, 0, False),
        ({B: 2, GONE: 0}, 2, False),
    ],
)
def test_a_publisher_that_is_not_known_counts_from_its_first_message_on(since, replayed, complete):
    kept = Kept(0, 10, None)
    wall = time.time()
    kept.merge(
        [
            (A, 1, wall, None, b"\x81\x01x"),
            (A, 2, wall, None, b"\x81\x01y"),
            (B, 1, wall, None, b"\x81\x01z"),
        ],
        [],
    )
    frames, whole = kept.replay({A: 2, B: 1}, since)
    assert (len(frames), whole) == (replayed, complete)


@pytest.mark.parametrize("since", [{GONE: 0}, {}, {A: 0, GONE: 0}])
def test_all_that_is_kept_is_not_called_complete_when_it_is_not_everything(since):
    kept = Kept(0, 1, None)
    wall = time.time()
    kept.merge([(A, 1, wall, None, b"\x81\x01x"), (A, 2, wall, None, b"\x81\x01y")], [])
    frames, whole = kept.replay({A: 2}, since)
    assert (len(frames), whole) == (1, False)
