"""Build what counts, run `paths.py` under callgrind, and read what it wrote."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import fastws
from fastws import _kernels

HERE = Path(__file__).parent
LIMIT = 300  # seconds; it takes ten
# Valgrind knows no AVX-512; the first of these that a CPU has is counted.
KERNELS = ("avx2", "sse", "neon", "scalar")


class Failed(Exception):
    """What counts could not be built or did not run; the text says what and why."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """
    Instructions for each message, or delivery. The kernel's are not counted.

    Attributes:
        ours: in fastws's extension modules.
        all: there and in what they call: CPython with the handler, libc, zlib.
    """

    ours: float
    all: float


@dataclasses.dataclass(frozen=True)
class Counted:
    """What one run found: the build that it was of, and each path's cost by name."""

    build: dict[str, str]
    paths: dict[str, Cost]


def built(directory: Path) -> None:
    """Compile counting.c and clock.c. Raises: Failed."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    include = sysconfig.get_path("include")
    for name in ("counting", "clock"):
        source, library = HERE / f"{name}.c", directory / f"{name}.so"
        command = [*compiler, "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", f"-I{include}"]
        try:
            done = subprocess.run(
                [*command, "-o", str(library), str(source)], check=False, capture_output=True, text=True
            )
        except OSError as error:
            raise Failed(f"{compiler[0]} does not run: {error}") from None
        if done.returncode:
            raise Failed(f"{name}.c does not compile (Debian: gcc, valgrind):\n{done.stderr}")


def costs_by_object(text: str) -> tuple[str, dict[str, int]]:
    """
    Read one file of callgrind's.

    Returns: the name it was dumped under, and instructions by the object that they are in.
    """
    trigger = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    costs: dict[str, int] = defaultdict(int)
    names: dict[str, str] = {}
    current = ""
    of_callee = False
    for line in text.splitlines():
        if line.startswith(("ob=", "cob=")):
            # "(3) /usr/lib/x.so" the first time, whether it calls or is called; "(3)" afterwards.
            key, _, value = line.partition("=")
            number, _, name = value.partition(" ")
            path = names.setdefault(number, name)
            if key == "ob":
                current = path
        elif line.startswith("calls="):
            of_callee = True
        elif re.match(r"[\d+*-]", line):
            # What a call cost inside is with the callee.
            if not of_callee:
                costs[current] += int(line.split()[1])
            of_callee = False
    return trigger[1] if trigger else "", dict(costs)


def is_ours(path: str) -> bool:
    return Path(path).parent == Path(fastws.__file__).parent


def cost_of(costs: dict[str, int], messages: int) -> Cost:
    return Cost(
        ours=round(sum(cost for path, cost in costs.items() if is_ours(path)) / messages, 1),
        all=round(sum(costs.values()) / messages, 1),
    )


def environment(directory: Path) -> dict[str, str]:
    """Return all that the counted process gets: what differs moves its stack and its strings."""
    kernels = next(name for name in KERNELS if name in _kernels.supported())
    packages = HERE.parents[1], Path(fastws.__file__).parents[1]
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FASTWS_KERNELS": os.environ.get("FASTWS_KERNELS") or kernels,
        "LD_PRELOAD": str(directory / "clock.so"),
    }


def count() -> Counted:
    """Count the instructions of every path. Raises: Failed."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise Failed("there is no valgrind (Debian: valgrind)")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        built(directory)
        command = [
            valgrind,
            "--tool=callgrind",
            "--instr-atstart=no",
            "--collect-atstart=no",
            "--dump-line=no",
            f"--callgrind-out-file={directory / 'out'}",
            f"--log-file={directory / 'log'}",
            sys.executable,
            "-m",
            "micro.instructions.paths",
            name,
        ]
        try:
            done = subprocess.run(
                command,
                check=False,
                env=environment(directory),
                capture_output=True,
                text=True,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"valgrind did not end within {LIMIT} s") from None
        if done.returncode:
            log = (directory / "log").read_text() if (directory / "log").exists() else ""
            raise Failed(f"valgrind ended with status {done.returncode}:\n{log}{done.stderr}")
        report: dict[str, Any] = json.loads(done.stdout)
        files = dict(costs_by_object(path.read_text()) for path in sorted(directory.glob("out.*")))
    paths = {name: cost_of(files[name], messages) for name, messages in report["messages"].items()}
    return Counted(report["build"], paths)
