"""
Invariant: any stream of bytes, split in any way, gives the same events and output, wsproto judges
it alike, and nothing crashes or raises (tests/core/invariance.py).

Runs for FUZZ_SECONDS (30), see harness.py: without atheris with streams of frames that are mutated at random.
A failing input is written to FUZZ_CRASHES (build/fuzz); give such a file as an argument to run it again.
"""

import harness

harness.use("core")

import frames  # noqa: E402
from invariance import check  # noqa: E402

TEXTS = [b"", b"a", b"plain ASCII that fills a block or two of the widest kernel " * 3, "é€😀".encode() * 9]
TEXTS += [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a" * 63 + b"\xc3"]
LENGTHS = [0, 1, 124, 125, 126, 127, 1000, 65535, 65536, 70_000]


def run(data):
    """Check one input."""
    parts = harness.without_cuts(data)
    if parts is None:
        return
    flags, size, at, stream = parts
    check(
        stream,
        at,
        max_size=size * size if flags & 1 else None,
        text_as="bytes" if flags & 2 else "str",
        close_at=flags >> 4 if flags & 4 else None,
    )


def some_frame(rng):
    opcode = rng.choice([0, 0, 1, 1, 1, 2, 2, 8, 9, 10, rng.randrange(16)])
    if opcode == frames.CLOSE:
        code = rng.choice([1000, 1005, 1014, 1015, 3000, 4999, 5000, rng.randrange(2**16)])
        payload = rng.choice([b"", b"\x03", frames.close_payload(code, rng.choice(TEXTS)[:123])])
    elif opcode & 8:
        payload = rng.randbytes(rng.choice([0, 1, 5, 125]))
    elif rng.random() < 0.7:
        payload = b"".join(rng.choices(TEXTS, weights=[4, 4, 4, 4, 1, 1, 1, 1, 1, 1], k=rng.randrange(4)))
    else:
        payload = bytes(rng.choice(LENGTHS))
    mask = None if rng.random() < 0.02 else rng.randbytes(4)
    rsv = rng.randrange(8) if rng.random() < 0.02 else 0
    fin = bool(opcode & 8) or rng.random() < 0.6
    if rng.random() < 0.02:
        return frames.header(opcode, rng.randrange(2**64), fin=fin, mask=mask, form=8)
    return frames.frame(opcode, payload, fin=fin, rsv=rsv, mask=mask)


def some_input(rng):
    stream = bytearray(b"".join(some_frame(rng) for _ in range(rng.randrange(1, 8))))
    harness.spoil(rng, stream, rng.choice([0, 0, 1, 1, 2, 8]))
    return harness.with_cuts(rng, rng.choice([0, 0, rng.randrange(256)]), rng.randrange(256), stream)


if __name__ == "__main__":
    harness.main("protocol", run, some_input)
