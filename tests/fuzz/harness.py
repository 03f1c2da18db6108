"""
What the targets here have in common: how long they run, where a failing input goes and how it is run again,
inputs with cuts, bytes spoilt at random, and programs in C.

A target runs under atheris, which learns from coverage, when it is installed, else with inputs that it makes
at random; one in C with clang's libFuzzer when there is a clang.
"""

import hashlib
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "ext" / "kernels"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))
CRASHES = Path(os.environ.get("FUZZ_CRASHES", ROOT / "build" / "fuzz"))

C_FLAGS = ["-std=gnu11", "-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", f"-I{KERNELS}"]
SANITIZERS = "address,undefined"


def use(*folders):
    """Make the modules in these folders of tests/ importable."""
    sys.path[:0] = [str(ROOT / "tests" / folder) for folder in folders]


# ---- inputs


def with_cuts(rng, flags, size, stream):
    """Return an input: 2 bytes of options, the number of cuts, the cuts in 2 bytes each, and the stream."""
    count = rng.choice([0, 1, 2, 5, 20])
    return bytes([flags, size, count]) + rng.randbytes(2 * count) + stream


def without_cuts(data):
    """Return what `with_cuts` was given, and where the stream is cut; None for what is too short."""
    if len(data) < 3:
        return None
    flags, size, count = data[:3]
    cuts, stream = data[3 : 3 + 2 * count], data[3 + 2 * count :]
    at = [int.from_bytes(cuts[i : i + 2], "big") % (len(stream) + 1) for i in range(0, len(cuts), 2)]
    return flags, size, at, stream


def spoil(rng, data, times):
    """Change some bytes of a bytearray, take some out, or put some in; mostly near its beginning."""
    for _ in range(times):
        if data:
            at = rng.randrange(min(len(data), rng.choice([20, 200, 10**6])))
            match rng.randrange(4):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    data[at] = rng.randrange(256)
                case 2:
                    del data[at : at + rng.randrange(1, 5)]
                case 3:
                    data[at:at] = rng.randbytes(rng.randrange(1, 5))
    return data


# ---- targets in Python


def files_named():
    """Return the files that were given as arguments: inputs to be run again."""
    return [path for path in map(Path, sys.argv[1:]) if path.is_file()]


def keep(name, data):
    """Write a failing input to a file, and say how it is run again."""
    CRASHES.mkdir(parents=True, exist_ok=True)
    path = CRASHES / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    print(f"run it again with: {sys.argv[0]} {path}", file=sys.stderr)


def random_numbers():
    seed = random.randrange(2**32)
    print(f"seed {seed}", flush=True)
    return random.Random(seed)


def at_random(name, run, some_input):
    rng = random_numbers()
    end = time.monotonic() + SECONDS
    runs = 0
    while time.monotonic() < end:
        data = some_input(rng)
        try:
            run(data)
        except BaseException:
            print(f"failed after {runs} inputs", file=sys.stderr)
            keep(name, data)
            raise
        runs += 1
    print(f"{runs} inputs passed")


def main(name, run, some_input):
    """
    Run the inputs that are given as arguments, or what is found for SECONDS.

    Args:
        name: what the files of failing inputs begin with.
        run: checks one input, bytes; raises for what should not be.
        some_input: returns one, made with the `random.Random` that it is given.
    """
    again = files_named()
    for path in again:
        run(path.read_bytes())
        print(f"{path} passed")
    if again:
        return
    if importlib.util.find_spec("atheris") is None:
        at_random(name, run, some_input)
        return
    import atheris

    CRASHES.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={SECONDS:.0f}", f"-artifact_prefix={CRASHES}/{name}-"]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:]], run)
    atheris.Fuzz()


# ---- targets in C


def call(*command, **options):
    """Run a command; return its exit status."""
    # The sanitizer libraries that this process was started with are neither for the compiler nor for
    # the program, which has its own.
    env = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    return subprocess.run([str(word) for word in command], env=env, check=False, **options).returncode


def build(program, sources, *flags):
    """Build with gcc, and tell whether that went well."""
    gcc = shutil.which("gcc") or sys.exit("the sanitizer build needs gcc (Debian: gcc)")
    return not call(gcc, *C_FLAGS, f"-fsanitize={SANITIZERS}", *sources, *flags, "-o", program)


def build_with_libfuzzer(program, sources, *flags):
    """Build so that libFuzzer drives it, and tell whether that went well."""
    clang = shutil.which("clang")
    if clang is None:
        return False
    if not call(clang, *C_FLAGS, f"-fsanitize=fuzzer,{SANITIZERS}", *sources, *flags, "-o", program):
        return True
    print("clang has no libFuzzer (Debian: libclang-rt-dev); going on with gcc", file=sys.stderr)
    return False


def learn(name, program, folder, some_input, seconds, longest):
    """Let libFuzzer look for inputs that reach new code; return the exit status."""
    CRASHES.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus"
    corpus.mkdir()
    for i in range(200):
        (corpus / f"seed-{i}").write_bytes(some_input(random.Random(i)))
    limits = [f"-max_total_time={seconds:.0f}", f"-artifact_prefix={CRASHES}/{name}-", f"-max_len={longest}"]
    return call(program, *limits, corpus)
