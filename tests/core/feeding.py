"""Feed a stream to a Recorder in every way in which it may arrive, and compare what came of it.

The invariant: any split of a stream gives the same events, the same output and the same end.
"""

import itertools
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from fastws._recorder import Recorder


class Outcome(NamedTuple):
    events: list[tuple[Any, ...]]
    output: bytes
    close_sent: tuple[int, str] | None
    close_received: tuple[int, str] | None
    failed: bool
    retained: int

    @property
    def verdict(self):
        """The code with which the connection was failed; None when it was not."""
        return self.close_sent[0] if self.failed and self.close_sent else None

    @property
    def messages(self):
        return [event[1] for event in self.events if event[0] == "message"]


def outcome(recorder):
    return Outcome(
        recorder.events,
        recorder.data_to_send(),
        recorder.close_sent,
        recorder.close_received,
        recorder.failed,
        recorder.retained,
    )


def feed(recorder, pieces, *, direct=False):
    """
    Feed `pieces` one after the other, and what a hold left over again after a release.

    Args:
        direct: offer each piece to the buffer of a large payload first, as a connection does.
    """
    for piece in pieces:
        rest = memoryview(piece)
        released = False
        while rest:
            taken = recorder.receive_direct(rest) if direct else 0
            if not taken:
                taken = recorder.receive_data(rest)
            assert 0 <= taken <= len(rest), f"{taken} of {len(rest)} bytes were taken"
            assert taken or not released, "nothing is taken though nothing holds"
            rest = rest[taken:]
            if rest and not taken:
                recorder.release()
                released = True
            else:
                released = False
    return recorder


def cut(stream, at):
    """Cut `stream` at the offsets `at`, in any order."""
    edges = [0, *sorted(at), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def slices(stream, size):
    return [stream[i : i + size] for i in range(0, len(stream), size)]


def splits(stream):
    """Offsets to cut `stream` at, for Hypothesis."""
    return st.lists(st.integers(0, len(stream)), max_size=12)


def play(stream, *, make=Recorder, **options):
    """
    Feed `stream` in one read, byte by byte, in small and large slices with and without the direct
    buffer, and cut at random; return the outcome, which is always the same.

    Args:
        make: returns a new Recorder; by default one with `options`.
    """

    def run(pieces, **how):
        return outcome(feed(make(**options), pieces, **how))

    whole = run([stream])
    assert run(slices(stream, 1)) == whole, "byte by byte"
    assert run(slices(stream, 1), direct=True) == whole, "byte by byte, direct"
    for size in (2, 3, 5, 7, 13, 64, 4096, 65536):
        if size < len(stream):
            assert run(slices(stream, size)) == whole, f"in reads of {size} bytes"
            assert run(slices(stream, size), direct=True) == whole, f"in reads of {size} bytes, direct"

    @settings(max_examples=20, database=None, derandomize=True)
    @given(splits(stream), st.booleans())
    def at_random(at, direct):
        assert run(cut(stream, at), direct=direct) == whole

    at_random()
    return whole


def fails(stream, code, *, before=(), reason=None, answers=b"", **options):
    """Assert that `stream` gives the events `before`, then fails the connection, however it arrives."""
    result = play(stream, **options)
    assert result.events[:-1] == list(before)
    kind, got, why = result.events[-1]
    assert (kind, got) == ("fail", code)
    if reason is not None:
        assert why == reason
    assert result.close_sent == (code, why)
    payload = code.to_bytes(2, "big") + why.encode()
    assert result.output == answers + bytes([0x88, len(payload)]) + payload
    assert result.failed
    assert result.retained == 0
    return result
