"""
Builds fuzz_deflate.c, which states the invariant and makes inputs, and runs it for FUZZ_SECONDS (30)
under AddressSanitizer and UndefinedBehaviorSanitizer; beside zlib's inflate where zlib.h is.

A failure prints the seed of its input; give that, or files with inputs, as arguments to run them again.
"""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "ext" / "kernels"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))

FLAGS = ["-std=gnu11", "-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", f"-I{KERNELS}"]
FLAGS += ["-fsanitize=address,undefined", "-DALONE"]
SOURCES = [Path(__file__).with_suffix(".c"), KERNELS / "deflate.c"]


def call(*command):
    # The sanitizer libraries that this process was started with are neither for the compiler nor for
    # the program, which has its own.
    env = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    return subprocess.run([str(word) for word in command], env=env, check=False).returncode


def main():
    with tempfile.TemporaryDirectory() as name:
        program = Path(name) / "fuzz_deflate"
        if call("gcc", *FLAGS, "-DWITH_ZLIB", *SOURCES, "-lz", "-o", program):
            print("no zlib.h (Debian: zlib1g-dev); going on without zlib", file=sys.stderr)
            if call("gcc", *FLAGS, *SOURCES, "-o", program):
                sys.exit("gcc cannot build fuzz_deflate.c")
        if sys.argv[1:] and all(Path(word).is_file() for word in sys.argv[1:]):
            sys.exit(call(program, *sys.argv[1:]))
        seed = int(sys.argv[1]) if sys.argv[1:] else random.randrange(2**32)
        print(f"seed {seed}", flush=True)
        sys.exit(call(program, f"-{SECONDS:.0f}", seed))


if __name__ == "__main__":
    main()
