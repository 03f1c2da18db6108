"""
Builds fuzz_kernels.c, which states the invariant, and runs it for FUZZ_SECONDS (30): with clang's
libFuzzer, which learns from coverage, when there is a clang, else with gcc on generated inputs.

Both under AddressSanitizer and UndefinedBehaviorSanitizer. A failing input is written to FUZZ_CRASHES
(build/fuzz); give such a file as an argument to run it again.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "ext" / "kernels"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))
CRASHES = Path(os.environ.get("FUZZ_CRASHES", ROOT / "build" / "fuzz"))

FLAGS = ["-std=gnu11", "-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", f"-I{KERNELS}"]
SOURCES = [Path(__file__).with_suffix(".c"), *sorted(KERNELS.glob("*.c"))]
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


def call(*command, **options):
    # The sanitizer libraries that this process was started with are neither for the compiler nor for
    # the program, which has its own.
    env = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    return subprocess.run([str(word) for word in command], env=env, check=False, **options)


def build(folder):
    """Return the program, and whether libFuzzer drives it."""
    clang = shutil.which("clang")
    program = folder / "fuzz_kernels"
    if clang:
        sanitizers = "-fsanitize=fuzzer,address,undefined"
        if not call(clang, *FLAGS, sanitizers, *SOURCES, "-o", program).returncode:
            return program, True
        print("clang cannot build it with libFuzzer; going on with gcc", file=sys.stderr)
    gcc = shutil.which("gcc") or sys.exit("the sanitizer build needs gcc (Debian: gcc) or clang")
    if call(gcc, *FLAGS, "-fsanitize=address,undefined", "-DREPLAY", *SOURCES, "-o", program).returncode:
        sys.exit("gcc cannot build fuzz_kernels.c")
    return program, False


def keep(path):
    CRASHES.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes()
    kept = CRASHES / f"kernels-{hashlib.sha256(data).hexdigest()[:12]}"
    kept.write_bytes(data)
    print(f"run it again with: {sys.argv[0]} {kept}", file=sys.stderr)


def at_random(program, folder):
    seed = random.randrange(2**32)
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    end = time.monotonic() + SECONDS
    paths = [folder / f"input-{i}" for i in range(BATCH)]
    runs = 0
    while time.monotonic() < end:
        for path in paths:
            path.write_bytes(some_input(rng))
        if call(program, *paths, stdout=subprocess.DEVNULL).returncode:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            failing = [path for path in paths if call(program, path, **quiet).returncode]
            if failing:
                keep(min(failing, key=lambda path: path.stat().st_size))
            sys.exit(f"fuzz_kernels.c failed within {BATCH} inputs after {runs}")
        runs += BATCH
    print(f"{runs} inputs passed")


def main():
    again = [path for path in map(Path, sys.argv[1:]) if path.is_file()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program, learns = build(folder)
        if again:
            sys.exit(call(program, *again).returncode)
        if not learns:
            return at_random(program, folder)
        CRASHES.mkdir(parents=True, exist_ok=True)
        corpus = folder / "corpus"
        corpus.mkdir()
        for i in range(200):
            (corpus / f"seed-{i}").write_bytes(some_input(random.Random(i)))
        limits = [f"-max_total_time={SECONDS:.0f}", f"-artifact_prefix={CRASHES}/kernels-", "-max_len=8192"]
        sys.exit(call(program, *limits, corpus).returncode)


if __name__ == "__main__":
    main()
