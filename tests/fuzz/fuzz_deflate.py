"""
Builds fuzz_deflate.c, which states the invariant, and runs it for FUZZ_SECONDS (30) under AddressSanitizer
and UndefinedBehaviorSanitizer, beside zlib's inflate where zlib.h is: on inputs that it makes itself; with a
clang the first half of the time with libFuzzer, which learns from coverage.

A failure prints the seed of its input, or writes it to FUZZ_CRASHES (build/fuzz); give the seed, or files
with inputs, as arguments to run them again.
"""

import random
import sys
import tempfile
from pathlib import Path

import harness

SOURCES = [Path(__file__).with_suffix(".c"), harness.KERNELS / "deflate.c"]
ZLIB = ("-DWITH_ZLIB", "-lz")


def some_input(rng):
    """Return what the program reads: window, what went before; literals, copies from before, and runs."""
    data = bytearray([rng.randrange(256), rng.choice([0, rng.randrange(256)])])
    for _ in range(rng.randrange(rng.choice([4, 40]))):
        match rng.randrange(3):
            case 0:
                count = rng.randrange(rng.choice([8, 128]))
                data += bytes([count]) + bytes(rng.choices(b"etaoin shrdlu", k=count + 1))
            case 1:
                back = rng.randrange(rng.choice([300, 65536]))
                data += bytes([128 + rng.randrange(64)]) + back.to_bytes(2, "little")
            case 2:
                data += bytes([192 + rng.randrange(64), rng.randrange(256)])
    return bytes(data)


def built(build, program, *flags):
    """Build with zlib, or without."""
    return build(program, SOURCES, *flags, *ZLIB) or build(program, SOURCES, *flags)


def main():
    again = harness.files_named()
    seconds = harness.SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "fuzz_deflate"
        if not again and not sys.argv[1:] and built(harness.build_with_libfuzzer, program):
            seconds /= 2
            if status := harness.learn("deflate", program, folder, some_input, seconds, 8192):
                sys.exit(status)
        if not built(harness.build, program, "-DALONE"):
            sys.exit("gcc cannot build fuzz_deflate.c")
        if again:
            sys.exit(harness.call(program, *again))
        seed = int(sys.argv[1]) if sys.argv[1:] else random.randrange(2**32)
        print(f"seed {seed}", flush=True)
        sys.exit(harness.call(program, f"-{seconds:.0f}", seed))


if __name__ == "__main__":
    main()
