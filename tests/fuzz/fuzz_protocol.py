"""
Invariant: any stream of bytes, split in any way, gives the same events and output, wsproto judges
it alike, and nothing crashes or raises (tests/core/invariance.py).

Runs for FUZZ_SECONDS (30): under atheris, which learns from coverage, when it is installed, else
with streams of frames that are mutated at random. A failing input is written to FUZZ_CRASHES
(build/fuzz); give such a file as an argument to run it again.

An input is 2 bytes of options, the number of cuts, the cuts in 2 bytes each, and the stream.
"""

import hashlib
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "core"))

import frames  # noqa: E402
from invariance import check  # noqa: E402

SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))
CRASHES = Path(os.environ.get("FUZZ_CRASHES", ROOT / "build" / "fuzz"))

TEXTS = [b"", b"a", b"plain ASCII that fills a block or two of the widest kernel " * 3, "é€😀".encode() * 9]
TEXTS += [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a" * 63 + b"\xc3"]
LENGTHS = [0, 1, 124, 125, 126, 127, 1000, 65535, 65536, 70_000]


def run(data):
    """Check one input."""
    if len(data) < 3:
        return
    flags, size, count = data[:3]
    cuts, stream = data[3 : 3 + 2 * count], data[3 + 2 * count :]
    at = [int.from_bytes(cuts[i : i + 2], "big") % (len(stream) + 1) for i in range(0, len(cuts), 2)]
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
    for _ in range(rng.choice([0, 0, 1, 1, 2, 8])):
        if stream:
            at = rng.randrange(min(len(stream), rng.choice([20, 200, 10**6])))
            match rng.randrange(4):
                case 0:
                    stream[at] ^= 1 << rng.randrange(8)
                case 1:
                    stream[at] = rng.randrange(256)
                case 2:
                    del stream[at : at + rng.randrange(1, 5)]
                case 3:
                    stream[at:at] = rng.randbytes(rng.randrange(1, 5))
    count = rng.choice([0, 1, 2, 5, 20])
    return (
        bytes([rng.choice([0, 0, rng.randrange(256)]), rng.randrange(256), count])
        + rng.randbytes(2 * count)
        + stream
    )


def at_random():
    seed = random.randrange(2**32)
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    end = time.monotonic() + SECONDS
    runs = 0
    while time.monotonic() < end:
        data = some_input(rng)
        try:
            run(data)
        except BaseException:
            CRASHES.mkdir(parents=True, exist_ok=True)
            path = CRASHES / f"protocol-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"failed after {runs} inputs; run again with: {sys.argv[0]} {path}", file=sys.stderr)
            raise
        runs += 1
    print(f"{runs} inputs passed")


def main():
    again = [path for path in map(Path, sys.argv[1:]) if path.is_file()]
    for path in again:
        run(path.read_bytes())
        print(f"{path} passed")
    if again:
        return
    try:
        import atheris
    except ImportError:
        at_random()
    else:
        CRASHES.mkdir(parents=True, exist_ok=True)
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={SECONDS:.0f}",
                f"-artifact_prefix={CRASHES}/protocol-",
                *sys.argv[1:],
            ],
            run,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
