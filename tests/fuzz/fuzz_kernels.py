"""
Builds fuzz_kernels.c, which states the invariant, and runs it for FUZZ_SECONDS (30): with clang's
libFuzzer, which learns from coverage, when there is a clang, else with gcc on generated inputs.

Both under AddressSanitizer and UndefinedBehaviorSanitizer. A failing input is written to FUZZ_CRASHES
(build/fuzz); give such a file as an argument to run it again.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

SOURCES = [Path(__file__).with_suffix(".c"), *sorted(harness.KERNELS.glob("*.c"))]
BATCH = 500  # inputs for one process

# Runs and single code points at the edges of RFC 3629's ranges, and what must not pass.
GOOD = [
    "a",
    "plain ASCII that fills a block or two of the widest kernel ",
    "\x7f\x80",
    "\u07ff\u0800",
    "é€😀",
]
GOOD += ["\ud7ff\ue000", "\uffff\U00010000", "\U0010ffff"]
BAD = [
    b"\x80",
    b"\xc0\xaf",
    b"\xc2",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
]
BAD += [b"\xf5", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98"]


def some_input(rng):
    """Return a key, a phase and pieces, of text that is whole or spoilt, plain or masked, or of anything."""
    key = rng.choice([bytes(4), rng.randbytes(4)])
    phase = rng.randrange(4)
    if rng.random() < 0.1:
        text = bytearray(rng.randbytes(rng.randrange(600)))
    else:
        text = bytearray()
        for _ in range(rng.randrange(12)):
            text += rng.choice(GOOD).encode() * rng.choice([1, 1, 2, 17, 70])
        for _ in range(rng.choice([0, 0, 1, 3])):
            at = rng.randrange(len(text) + 1)
            if rng.random() < 0.5:
                text[at:at] = rng.choice(BAD)
            elif at < len(text):
                text[at] ^= 1 << rng.randrange(8)
    data = bytearray(key + bytes([phase]))
    offset = 0
    unmasked = rng.random() < 0.3
    while offset < len(text):
        code = rng.choice([rng.randrange(128), rng.randrange(8), rng.randrange(128, 256), 255])
        piece = text[offset : offset + (code if code < 128 else 8 * (code - 128))]
        if not unmasked:
            # As it comes from a peer: what the kernels unmask is text.
            piece = bytes(byte ^ key[(phase + offset + i) & 3] for i, byte in enumerate(piece))
        data += bytes([code]) + piece
        offset += len(piece)
    return bytes(data)


def at_random(program, folder):
    rng = harness.random_numbers()
    end = time.monotonic() + harness.SECONDS
    paths = [folder / f"input-{i}" for i in range(BATCH)]
    runs = 0
    while time.monotonic() < end:
        for path in paths:
            path.write_bytes(some_input(rng))
        if harness.call(program, *paths, stdout=subprocess.DEVNULL):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            failing = [path.read_bytes() for path in paths if harness.call(program, path, **quiet)]
            if failing:
                harness.keep("kernels", min(failing, key=len))
            sys.exit(f"fuzz_kernels.c failed within {BATCH} inputs after {runs}")
        runs += BATCH
    print(f"{runs} inputs passed")


def main():
    again = harness.files_named()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "fuzz_kernels"
        learns = harness.build_with_libfuzzer(program, SOURCES)
        if not learns and not harness.build(program, SOURCES, "-DREPLAY"):
            sys.exit("gcc cannot build fuzz_kernels.c")
        if again:
            sys.exit(harness.call(program, *again))
        if not learns:
            return at_random(program, folder)
        sys.exit(harness.learn("kernels", program, folder, some_input, harness.SECONDS, 8192))


if __name__ == "__main__":
    main()
