"""
Compare WebSocket servers by what a message costs them.

    bench.py [--cells NAME ...] [--servers NAME ...] [--rounds N] [--quick] [--json FILE]

Builds the yardstick (servers/limit.c) and the load (load.c) into build/bench/. Each cell of the comparison
runs the servers in turns, in several rounds, a fresh process each time: server on one core, load on another.
README.md says how to read the figures. Needs gcc, and for each server the package that it is named after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
LIMIT, LOAD = BUILD / "limit", BUILD / "load"
SERVERS = ("limit", "fastws", "coroutines", "picows", "websockets")
YARDSTICK = "limit"
START_SECONDS = 20
LOAD_SECONDS = 180  # more than any load may take
MAX_WAIT = 0.05  # of the window; who waits longer for a core shares it with other work
IDLE_CONNECTIONS = 10_000
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]  # the same when there is only one


@dataclass(frozen=True)
class Cell:
    """
    One row of the comparison.

    load: arguments for the load; the first is its mode.
    server: arguments for the servers written in Python.
    unit: what is counted.
    rounds: fewer than asked for, where another one tells nothing new.
    note: what a fair reader has to know.
    """

    name: str
    description: str
    load: tuple[str, ...]
    server: tuple[str, ...] = ()
    unit: str = "message"
    rounds: int | None = None
    note: str = ""


def echo(connections: int, size: int, *more: str) -> tuple[str, ...]:
    return ("echo", "-c", str(connections), "-s", str(size), *more)


STR, BYTES = ("--mode", "str"), ("--mode", "bytes")
NO_STR = f"{YARDSTICK} neither validates nor decodes text"
UNCHECKED = f"{YARDSTICK} and picows do not validate this text as UTF-8; the others do"
CELLS = [
    Cell("echo-64", "64-byte binary messages, 64 connections", echo(64, 64)),
    Cell("echo-64x16", "the same, 16 messages in flight on each connection", echo(64, 64, "-p", "16")),
    Cell(
        "text-128",
        "128-byte ASCII text as str, 64 connections",
        echo(64, 128, "--kind", "ascii"),
        STR,
        note=NO_STR,
    ),
    Cell(
        "text-16k",
        "16 KiB of mixed text as bytes, 8 connections",
        echo(8, 16 * 1024, "--kind", "mixed"),
        BYTES,
        note=UNCHECKED,
    ),
    Cell(
        "text-16k-str",
        "16 KiB of mixed text as str, 8 connections",
        echo(8, 16 * 1024, "--kind", "mixed"),
        STR,
        note=NO_STR,
    ),
    Cell("echo-64k", "64 KiB binary messages, 8 connections", echo(8, 64 * 1024)),
    Cell("echo-1m", "1 MiB binary messages, 2 connections", echo(2, 1024 * 1024)),
    Cell(
        "handshake",
        "connect, upgrade with a browser's header fields, drop; 32 at a time",
        ("handshake", "-c", "32"),
        unit="handshake",
    ),
    Cell(
        "memory",
        f"user-space memory of the server, {IDLE_CONNECTIONS:,} idle connections",
        ("idle", "-c", str(IDLE_CONNECTIONS)),
        unit="connection",
        rounds=1,
    ),
    Cell(
        "broadcast",
        "64-byte messages to 1,000 connections, one at a time",
        ("fanout", "-c", "1000"),
        ("--broadcast",),
        unit="delivery",
    ),
    Cell(
        "broadcast-x10",
        "the same, 10 messages at a time",
        ("fanout", "-c", "1000", "-p", "10"),
        ("--broadcast",),
        unit="delivery",
    ),
]


class Failed(Exception):
    """A server that did not start, or a load that got a wrong answer; the text says what."""


@dataclass
class Outcome:
    """What one server did in one cell: the load's report for each round, or why there is none."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None

    def median(self, key: str) -> float:
        return median(run[key] for run in self.runs)


def ratio(
    yardstick: Outcome, outcome: Outcome, of: Callable[[dict[str, Any], dict[str, Any]], float]
) -> float:
    """The median over the rounds of a comparison within each: what slows a whole round down cancels out."""
    return median(map(of, yardstick.runs, outcome.runs))


# ---- processes


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started inside run on this core alone: they inherit it."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def allow_many_files() -> None:
    """Raise the limit on open files as far as it goes; processes started later inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def first_line(process: subprocess.Popen[str], seconds: float) -> str:
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline().strip() if ready else ""


def last_words(file: Any) -> str:
    file.seek(0)
    lines = file.read().strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def command(server: str, cell: Cell) -> list[str]:
    if server == YARDSTICK:
        return [str(LIMIT), "0", *(argument for argument in cell.server if argument == "--broadcast")]
    arguments = ["0", *cell.server]
    if server == "coroutines":
        server = "fastws"
        arguments.append("--coroutines")
    return [sys.executable, str(HERE / "servers" / f"{server}_echo.py"), *arguments]


@contextlib.contextmanager
def serving(server: str, cell: Cell) -> Iterator[tuple[int, str]]:
    """Run a server, as (process id, port)."""
    with tempfile.TemporaryFile("w+") as errors:
        with on_core(SERVER_CORE):
            process = subprocess.Popen(
                command(server, cell),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            line = first_line(process, START_SECONDS)
            if not line.startswith("listening "):
                stop(process)
                raise Failed(f"did not start: {last_words(errors)}")
            yield process.pid, line.rpartition(":")[2]
        finally:
            stop(process)


def stolen_seconds() -> float:
    """Return for how long, summed over the two cores, the host has run something else than this machine."""
    ticks = [0]
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in (f"cpu{SERVER_CORE}", f"cpu{LOAD_CORE}"):
            ticks.append(int(fields[7]))
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def run_load(arguments: tuple[str, ...], pid: int, port: str) -> dict[str, Any]:
    began, stolen = time.monotonic(), stolen_seconds()
    with on_core(LOAD_CORE):
        done = subprocess.run(
            [str(LOAD), *arguments, "--server-pid", str(pid), port],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LOAD_SECONDS,
            check=False,
        )
    if done.returncode:
        raise Failed(done.stderr.strip() or f"load ended with status {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout)
    report["stolen_share"] = (stolen_seconds() - stolen) / (time.monotonic() - began)
    return report


def anonymous_memory(pid: int) -> int:
    """Return the resident anonymous memory of a process in bytes; n sharing a page count 1/n of it each."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss_Anon":
            return int(value.split()[0]) * 1024
    raise Failed("this kernel does not report Pss_Anon")


def run_memory(cell: Cell, pid: int, port: str) -> dict[str, Any]:
    """Hold the idle connections, and compare the server's memory with what it was before."""

    def hold(connections: int) -> int:
        with on_core(LOAD_CORE):
            process = subprocess.Popen(
                [str(LOAD), "idle", "-c", str(connections), "-d", str(LOAD_SECONDS), port],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert process.stdin and process.stderr
        try:
            if not first_line(process, LOAD_SECONDS):
                stop(process)
                raise Failed(process.stderr.read().strip())
            time.sleep(1)
            return anonymous_memory(pid)
        finally:
            process.stdin.close()
            stop(process)

    hold(8)  # what the first connections load and allocate once
    time.sleep(0.5)
    before = anonymous_memory(pid)
    return {"connections": IDLE_CONNECTIONS, "bytes": (hold(IDLE_CONNECTIONS) - before) / IDLE_CONNECTIONS}


# ---- cells


def run_cell(cell: Cell, servers: list[str], rounds: int, seconds: float) -> dict[str, Outcome]:
    outcomes = {server: Outcome() for server in servers}
    for turn in range(cell.rounds or rounds):
        shift = turn % len(servers)
        for server in servers[shift:] + servers[:shift]:
            outcome = outcomes[server]
            if outcome.failure:
                continue
            try:
                with serving(server, cell) as (pid, port):
                    if cell.load[0] == "idle":
                        outcome.runs.append(run_memory(cell, pid, port))
                    else:
                        outcome.runs.append(run_load((*cell.load, "-d", str(seconds)), pid, port))
            except (Failed, subprocess.TimeoutExpired) as error:
                outcome.failure = str(error)
                outcome.runs.clear()
    return outcomes


def table(cell: Cell, outcomes: dict[str, Outcome]) -> str:
    memory = cell.load[0] == "idle"
    cost = "bytes" if memory else "server_cpu_us"
    yardstick = outcomes.get(YARDSTICK)
    compared = yardstick if yardstick and yardstick.runs else None

    def against(
        outcome: Outcome, of: Callable[[dict[str, Any], dict[str, Any]], float], digits: int = 2
    ) -> str:
        return f"{ratio(compared, outcome, of):10.{digits}f}" if compared else " " * 10

    head = f"{'server':12}{('bytes/' if memory else 'CPU us/') + cell.unit:>18}{YARDSTICK + '/it':>10}"
    if not memory:
        head += f"{'rate/s':>12}{'it/' + YARDSTICK:>10}{'p50 us':>9}{'p99 us':>9}"
    rows = [f"{cell.name}: {cell.description}", head]
    saturated = disturbed = False
    measured = [name for name, outcome in outcomes.items() if outcome.runs]
    for name in sorted(measured, key=lambda name: outcomes[name].median(cost)):
        outcome = outcomes[name]
        row = f"{name:12}{outcome.median(cost):18.2f}"
        row += against(outcome, lambda limit, it: limit[cost] / it[cost], 4 if memory else 2)
        if not memory:
            row += f"{outcome.median('rate'):12,.0f}" + against(
                outcome, lambda limit, it: it["rate"] / limit["rate"]
            )
            row += "".join(f" {outcome.median(key):8,.0f}" for key in ("p50_us", "p99_us"))
            if any(run["saturated"] for run in outcome.runs):
                row += " *"
                saturated = True
            if any(outcome.median(f"{by}_share") > MAX_WAIT for by in ("server_wait", "load_wait", "stolen")):
                row += " ~"
                disturbed = True
        rows.append(row)
    rows += [
        f"{name:12}not ranked: {outcome.failure}" for name, outcome in outcomes.items() if outcome.failure
    ]
    if cell.note:
        rows.append(f"({cell.note})")
    if saturated:
        rows.append("* the load's core was full before the server's: the server could have gone faster")
    if disturbed:
        rows.append(
            f"~ a core was taken away for over {MAX_WAIT:.0%} of the time, by other work here or on the host"
        )
    return "\n".join(rows)


# ---- what it ran on


def build() -> None:
    compiler = shutil.which("gcc")
    if not compiler:
        sys.exit("the benchmarks need gcc (Debian: gcc libc6-dev)")
    BUILD.mkdir(parents=True, exist_ok=True)
    for source, target in ((HERE / "servers" / "limit.c", LIMIT), (HERE / "load.c", LOAD)):
        newest = max(path.stat().st_mtime for path in (source, *HERE.glob("*.h")))
        if not target.exists() or target.stat().st_mtime < newest:
            subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), str(source)], check=True)


def versions() -> dict[str, str]:
    compiler = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    found = {"gcc": compiler.stdout.strip(), "python": platform.python_version()}
    for name in ("uvloop", "fastws", "picows", "websockets"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": len(CORES),
        "server_core": SERVER_CORE,
        "load_core": LOAD_CORE,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions(),
    }


def main() -> int:
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(description="Compare WebSocket servers by what a message costs them.")
    parser.add_argument(
        "--cells", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--servers",
        nargs="+",
        choices=SERVERS,
        default=list(SERVERS),
        metavar="NAME",
        help=", ".join(SERVERS),
    )
    parser.add_argument("--rounds", type=int, default=None, help="default: 5")
    parser.add_argument("--seconds", type=float, default=None, help="measured in each round, default: 3")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures")
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 5)
    seconds = options.seconds or (1 if options.quick else 3)

    build()
    allow_many_files()
    about = machine()
    print(
        f"{about['processor']}, {about['cores']} cores; {about['kernel']}; {rounds} rounds of {seconds:g} s"
    )
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    print(f"servers on core {about['server_core']}, load on core {about['load_core']}")
    if about["server_core"] == about["load_core"]:
        print("which they share: rates and latencies say little")
    report: dict[str, Any] = {"machine": about, "rounds": rounds, "seconds": seconds, "cells": {}}
    for cell in CELLS:
        if cell.name not in options.cells:
            continue
        outcomes = run_cell(cell, options.servers, rounds, seconds)
        print(f"\n{table(cell, outcomes)}", flush=True)
        report["cells"][cell.name] = {
            "description": cell.description,
            "servers": {name: {"failure": it.failure, "runs": it.runs} for name, it in outcomes.items()},
        }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
