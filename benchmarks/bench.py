"""
Compare WebSocket servers by what a message costs them.

    bench.py [--cells NAME ...] [--servers NAME ...] [--rounds N] [--quick] [--json FILE]

Builds the yardstick (servers/limit.c) and the load (load/load.c) into build/bench/. Each cell (cells.py)
runs the servers (competitors.py) in turns, in several rounds, a fresh process each time: server on one
core, load on another. README.md says how to read the figures. Needs gcc and zlib. A server that is not
installed is named and left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cells import CELLS, IDLE_CONNECTIONS, Cell
from competitors import COMPETITORS, YARDSTICK, build, install_bun, versions
from processes import (
    CORES,
    LOAD_CORE,
    SERVER_CORE,
    Failed,
    allow_many_files,
    run_load,
    run_memory,
    serving,
)

SERVERS = tuple(COMPETITORS)
MAX_WAIT = 0.05  # of the window; who waits longer for a core shares it with other work


@dataclass
class Outcome:
    """What one server did in one cell: the load's report for each round, or why there is none."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None
    lack: str | None = None  # what the server cannot do, so that it was not asked

    def median(self, key: str) -> float:
        return median(run[key] for run in self.runs)


def ratio(
    yardstick: Outcome, outcome: Outcome, of: Callable[[dict[str, Any], dict[str, Any]], float]
) -> float:
    """The median over the rounds of a comparison within each: what slows a whole round down cancels out."""
    return median(map(of, yardstick.runs, outcome.runs))


# ---- cells


def run_once(cell: Cell, server: str, seconds: float) -> dict[str, Any]:
    with serving(server, cell.server) as (pid, port):
        if cell.load[0] == "idle":
            return run_memory(IDLE_CONNECTIONS, pid, port)
        run = run_load((*cell.load, "-d", str(seconds)), pid, port)
    if cell.alone:
        with serving(server, cell.server) as (pid, port):
            run["alone"] = run_load((*cell.alone, "-d", str(seconds)), pid, port)
        run["alone_p99_us"] = run["alone"]["p99_us"]
    return run


def run_cell(cell: Cell, servers: list[str], rounds: int, seconds: float) -> dict[str, Outcome]:
    outcomes = {server: Outcome() for server in servers}
    for server, outcome in outcomes.items():
        outcome.lack = COMPETITORS[server].lack(cell.server)
        outcome.failure = None if outcome.lack else COMPETITORS[server].missing()
    for turn in range(cell.rounds or rounds):
        shift = turn % len(servers)
        for server in servers[shift:] + servers[:shift]:
            outcome = outcomes[server]
            if outcome.failure or outcome.lack:
                continue
            try:
                outcome.runs.append(run_once(cell, server, seconds))
            except (Failed, subprocess.TimeoutExpired) as error:
                outcome.failure = str(error)
                outcome.runs.clear()
    return outcomes


def table(cell: Cell, outcomes: dict[str, Outcome]) -> str:
    memory, deflate = cell.load[0] == "idle", "--deflate" in cell.load
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
        head += f"{'p99 alone':>11}" if cell.alone else ""
        head += f"{'wire bytes':>12}" if deflate else ""
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
            row += f"{outcome.median('alone_p99_us'):11,.0f}" if cell.alone else ""
            row += f"{outcome.median('wire_bytes'):12,.0f}" if deflate else ""
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
    rows += [f"{name:12}left out: {outcome.lack}" for name, outcome in outcomes.items() if outcome.lack]
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
    if "bun" in options.servers:
        install_bun()
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
            "servers": {
                name: {"failure": it.failure, "left_out": it.lack, "runs": it.runs}
                for name, it in outcomes.items()
            },
        }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
