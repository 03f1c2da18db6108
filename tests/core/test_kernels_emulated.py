"""The C kernels without Python, under AddressSanitizer and UndefinedBehaviorSanitizer.

avx512.c and neon.c run on any x86-64: SIMDe (Debian package libsimde-dev) has their intrinsics as
portable C. FASTWS_SKIP_EMULATED in the environment skips what needs it.
"""

import os
import platform
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from fastws import _kernels

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "ext" / "kernels"
TESTS = KERNELS / "tests"

SANITIZED = ["-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
# SIMDe's own code is not strict, and passes 64-byte vectors by value.
LENIENT = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
SOURCES = sorted(KERNELS.glob("*.c"))


def compiler():
    name = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    return name.split() if name else pytest.fail("no C compiler (Debian: gcc)")


def call(*command, **options):
    # A sanitizer library that this process was started with is neither for the compiler nor for
    # the programs, which have their own.
    env = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=env, check=False, **options
    )


def compile_c(target, *arguments):
    done = call(*compiler(), *arguments, "-o", target)
    assert done.returncode == 0, f"{done.args}\n{done.stderr}"
    return target


def run(*command):
    done = call(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def need_simde():
    """Fail where SIMDe is missing, or skip when the environment says so."""
    if os.environ.get("FASTWS_SKIP_EMULATED"):
        pytest.skip("FASTWS_SKIP_EMULATED is set")
    if call(*compiler(), "-E", "-x", "c", "-", input="#include <simde/simde-common.h>\n").returncode:
        pytest.fail(
            "the emulated kernels need SIMDe: Debian package libsimde-dev (or set FASTWS_SKIP_EMULATED=1)"
        )


def test_the_sets_of_this_cpu_agree_with_the_reference_under_the_sanitizers(tmp_path):
    program = compile_c(tmp_path / "native", *SANITIZED, *STRICT, TESTS / "test_kernels.c", *SOURCES)
    for seed in (1, 2):
        assert run(program, seed).split() == [
            word for name in _kernels.supported() for word in (name, "agrees")
        ]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="avx512.c is for x86-64")
def test_avx512_and_neon_agree_with_the_reference_though_this_cpu_may_lack_them(tmp_path):
    need_simde()
    emulated = [
        compile_c(
            tmp_path / f"{name}.o", *SANITIZED, *LENIENT, f"-DEMULATE_{name}", "-c", TESTS / "emulated.c"
        )
        for name in ("AVX512", "NEON")
    ]
    program = compile_c(
        tmp_path / "emulated", *SANITIZED, *STRICT, "-DEMULATED",
        TESTS / "test_kernels.c", KERNELS / "scalar.c", *emulated,
    )  # fmt: skip
    assert run(program).split() == ["avx512", "agrees", "neon", "agrees"]


def test_every_set_compiles_without_a_warning(tmp_path):
    for source in SOURCES:
        compile_c(tmp_path / f"{source.stem}.o", "-std=gnu11", "-O3", *STRICT, "-Wpedantic", "-c", source)


def fuzz_input(rng):
    """Key, phase and pieces as tests/fuzz/fuzz_kernels.c reads them: valid text, at times spoilt."""
    text = "".join(
        rng.choice(["plain ascii ", "é", "€", "😀", "\ud7ff", "\U0010ffff"]) for _ in range(60)
    ).encode()
    text = bytearray(text)
    if rng.random() < 0.5:
        text[rng.randrange(len(text))] = rng.randrange(256)
    key = rng.choice([bytes(4), rng.randbytes(4)])
    data = bytearray(key + bytes([rng.randrange(4)]))
    while text:
        length = rng.randrange(128)
        data += bytes([length]) + text[:length]
        del text[:length]
    return bytes(data)


def test_the_fuzz_target_finds_nothing_in_generated_inputs(tmp_path):
    program = compile_c(
        tmp_path / "replay", *SANITIZED, *STRICT, "-DREPLAY", f"-I{KERNELS}",
        ROOT / "tests" / "fuzz" / "fuzz_kernels.c", *SOURCES,
    )  # fmt: skip
    rng = random.Random(7)
    inputs = [tmp_path / f"input-{i}" for i in range(300)]
    for path in inputs:
        path.write_bytes(fuzz_input(rng))
    assert run(program, *inputs) == "300 inputs replayed\n"
