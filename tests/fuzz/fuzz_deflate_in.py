"""
Invariant: any compressed frames, valid and mutated, split in any way, give the same messages and the
same end; no message is longer than max_size; what Python's zlib makes of a good one is what comes out;
and nothing crashes or raises.

A window is 32 KiB on both sides, as a distance beyond a smaller one is seen or not as zlib is given its
input. What fails a connection may depend on it, too: of that only the code counts, and not which of
1007 and 1009 it is where both are due.

Runs for FUZZ_SECONDS (30), see harness.py: without atheris with frames that are mutated at random. A failing
input is written to FUZZ_CRASHES (build/fuzz); give such a file as an argument to run it again.
"""

import random
import zlib

import harness

harness.use("core")

import frames  # noqa: E402
from deflating import Peer, agreed, compressed_frame, raw_deflate, sent  # noqa: E402
from feeding import cut, feed, outcome, slices  # noqa: E402

from fastws._recorder import Recorder  # noqa: E402

CONTENTS = [
    b"",
    b"a",
    b"words that come again " * 20,
    "é€😀".encode() * 9,
    bytes(70_000),
    bytes(range(256)) * 9,
]
CONTENTS += [b"\xff", b"a" * 63 + b"\xc3", b"\xed\xa0\x80", random.Random(1).randbytes(3000)]
BLOCKS = [b"\x00\x00\x00\xff\xff", b"\x03\x00", b"\x01\x00\x00\xff\xff", b"\x06", b"\x05", b"\x00", b"\xff"]


def oracle(stream):
    """
    Return the messages in `stream` as zlib has them, as far as that is certain: up to what has
    another form than one plain deflate stream for each message.
    """
    found = []
    try:
        parsed = sent(stream)
    except (AssertionError, IndexError):
        return found
    for fin, rsv, opcode, payload in parsed:
        if opcode not in (1, 2) or not fin or rsv not in (0, 4):
            break
        if rsv:
            inflater = zlib.decompressobj(-15)
            try:
                payload = inflater.decompress(payload + b"\x00\x00\xff\xff")
            except zlib.error:
                break
            if inflater.eof:
                break
        if opcode == 1:
            try:
                payload = payload.decode()
            except UnicodeDecodeError:
                break
        found.append(payload)
    return found


def run(data):
    """Check one input."""
    parts = harness.without_cuts(data)
    if parts is None:
        return
    flags, size, at, stream = parts
    max_size = size * size * size if flags & 1 else None
    options = {
        "max_size": max_size,
        "text_as": "bytes" if flags & 2 else "str",
        "streaming": bool(flags & 4),
        "deflate": agreed(in_takeover=bool(flags & 8)),
    }
    pieces = cut(stream, at)
    whole = outcome(feed(Recorder(**options), [stream]))
    ways = {
        "cut": feed(Recorder(**options), pieces),
        "cut, direct": feed(Recorder(**options), pieces, direct=True),
    }
    if not options["streaming"]:
        ways["held"] = feed(Recorder(hold_after_message=True, **options), pieces)
    if len(stream) <= 1000:
        ways["byte by byte"] = feed(Recorder(**options), slices(stream, 1))
    for how, recorder in ways.items():
        result = outcome(recorder)
        assert alike(result) == alike(whole), how
    length = 0
    for event in whole.events:
        if event[0] in ("message", "fragment"):
            content = event[1].encode() if isinstance(event[1], str) else event[1]
            length += len(content)
            assert max_size is None or length <= max_size
        if event[0] == "message" or (event[0] == "fragment" and event[2]):
            length = 0
    assert whole.verdict in (None, 1002, 1007, 1009)
    assert not whole.failed or whole.retained == 0
    if not flags & 0b1111:
        certain = oracle(stream)
        messages = whole.messages
        if whole.verdict is None:
            assert messages[: len(certain)] == certain[: len(messages)]


def alike(result):
    """Return what does not depend on how a stream was cut."""
    events = [event for event in result.events if event[0] != "fail"]
    verdict = 1007 if result.verdict == 1009 else result.verdict
    return events, verdict, result.retained if result.verdict is None else 0


def some_payload(rng, peer):
    content = b"".join(rng.choices(CONTENTS, k=rng.randrange(3)))
    kind = rng.randrange(6)
    if kind == 0:
        return raw_deflate(content, flush=zlib.Z_FINISH) + rng.choice([b"", b"\x00"])
    if kind == 1:
        return b"".join(rng.choices(BLOCKS, k=rng.choice([1, 3, 300])))
    if kind == 2:
        return raw_deflate(content, before=rng.choice(CONTENTS), level=rng.randrange(10))
    payload = bytearray(peer.pack(content))
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        payload[rng.randrange(len(payload))] ^= 1 << rng.randrange(8)
    return bytes(payload[: rng.randrange(len(payload) + 1)] if rng.random() < 0.1 else payload)


def some_frames(rng, peer):
    opcode = rng.choice([frames.TEXT, frames.BINARY])
    if rng.random() < 0.1:
        return rng.choice([frames.ping(b"?"), frames.text("plain"), frames.ping(rsv=4), frames.cont(b"x")])
    payload = some_payload(rng, peer)
    mask = rng.randbytes(4)
    if rng.random() < 0.5:
        return compressed_frame(payload, opcode, mask=mask)
    at = rng.randrange(len(payload) + 1)
    between = rng.choice([b"", frames.ping(b"!")])
    rsv = 4 if rng.random() < 0.02 else 0
    return (
        compressed_frame(payload[:at], opcode, fin=False, mask=mask)
        + between
        + frames.cont(payload[at:], rsv=rsv, mask=mask)
    )


def some_input(rng):
    peer = Peer(takeover=rng.random() < 0.5, level=rng.randrange(10))
    stream = bytearray(b"".join(some_frames(rng, peer) for _ in range(rng.randrange(1, 6))))
    for _ in range(rng.choice([0, 0, 0, 1, 4])):
        stream[rng.randrange(min(len(stream), rng.choice([20, 200, 10**6])))] ^= 1 << rng.randrange(8)
    return harness.with_cuts(rng, rng.choice([0, 8, rng.randrange(16)]), rng.randrange(60), stream)


if __name__ == "__main__":
    harness.main("deflate-in", run, some_input)
