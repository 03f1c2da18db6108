"""
Compare WebSocket servers by what a message costs them.

    bench.py [--full] [--cells NAME ...] [--servers NAME ...] [--rounds N] [--seconds S] [--out DIR]

Gets ready what it needs in build/bench/ (installing.py). Each cell (cells.py) runs the servers
(competitors.py) in turns, in several rounds, a fresh process each time: server on one core, load on another
(load.py). Tables are printed as they come (tables.py); results/<date>-<machine>/ has the raw figures, a
report and charts (report.py). README.md says how to read them. Needs Linux and gcc. A server that is not
installed is named and left out.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import installing
import load
import recording
import report
import tables
from cells import BY_NAME, CELLS, Cell
from competitors import COMPETITORS
from processes import LOAD_CORES, SERVER_CORE, Failed, allow_many_files, anonymous_memory, serving

WARM_CONNECTIONS = 8  # held and dropped before memory is compared: what the first ones load and allocate once
SETTLE_SECONDS = 1
HALF = 0.5
FULL_ROUNDS, FULL_SECONDS = 5, 2.0
MAIN_ROUNDS, MAIN_SECONDS = 3, 1.0


def run_memory(cell: Cell, server: str) -> dict[str, Any]:
    """Hold the idle connections, and compare the server's memory with what it was before."""
    with serving(server, cell.server, tls=cell.load.tls) as running:
        with load.holding(replace(cell.load, connections=WARM_CONNECTIONS), running):
            pass
        time.sleep(SETTLE_SECONDS)  # memory given back late is not seen by any event
        before = anonymous_memory(running.pids)
        with load.holding(cell.load, running):
            time.sleep(SETTLE_SECONDS)
            more = anonymous_memory(running.pids) - before
    return {"connections": cell.load.connections, "bytes": more / cell.load.connections}


def run_once(cell: Cell, server: str, seconds: float, loads: int) -> dict[str, Any]:
    if cell.load.mode == "idle":
        return run_memory(cell, server)
    with serving(server, cell.server, tls=cell.load.tls) as running:
        run = load.measure(cell.load, running, seconds, loads)
    if cell.alone:
        with serving(server, cell.server, tls=cell.load.tls) as running:
            run["alone"] = load.measure(cell.alone, running, seconds, loads)
    return run


def run_half(cell: Cell, server: str, seconds: float, loads: int, rate: float) -> dict[str, Any]:
    """An open loop at a fixed rate: latencies count from when a message was due."""
    with serving(server, cell.server, tls=cell.load.tls) as running:
        return load.measure(replace(cell.load, rate=rate), running, seconds, loads)


def run_cell(cell: Cell, servers: list[str], rounds: int, seconds: float, loads: int) -> dict[str, Any]:
    """Return a cell's part of the results."""
    found: dict[str, Any] = {}
    for server in servers:
        left_out = COMPETITORS[server].lack(cell.needs)
        failure = None if left_out else COMPETITORS[server].missing()
        found[server] = {"left_out": left_out, "failure": failure, "runs": [], "half_load": []}

    def turns(number: int) -> list[tuple[str, dict[str, Any]]]:
        shift = number % len(servers)
        rotated = servers[shift:] + servers[:shift]
        return [
            (name, found[name]) for name in rotated if not (found[name]["left_out"] or found[name]["failure"])
        ]

    for number in range(cell.rounds or rounds):
        for server, it in turns(number):
            try:
                it["runs"].append(run_once(cell, server, seconds, loads))
            except (Failed, OSError) as error:
                it["failure"] = str(error)
    for number in range(rounds if cell.half_load else 0):
        for server, it in turns(number):
            try:
                rate = HALF * median(run["rate"] for run in it["runs"])
                it["half_load"].append(run_half(cell, server, seconds, loads, rate))
            except (Failed, OSError) as error:
                it["failure"] = f"at half load: {error}"
    return {
        "description": cell.description,
        "mode": cell.load.mode,
        "deflate": cell.load.deflate,
        "unit": cell.unit,
        "note": cell.note,
        "servers": found,
    }


def read_options() -> argparse.Namespace:
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(description="Compare WebSocket servers by what a message costs them.")
    parser.add_argument("--full", action="store_true", help="all cells, all servers, longer: a few hours")
    parser.add_argument("--cells", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--servers", nargs="+", choices=list(COMPETITORS), metavar="NAME", help=", ".join(COMPETITORS)
    )
    parser.add_argument(
        "--rounds", type=int, help=f"default: {MAIN_ROUNDS}, with --full {FULL_ROUNDS}", metavar="N"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"measured in each round, default: {MAIN_SECONDS:g}, with --full {FULL_SECONDS:g}",
    )
    parser.add_argument(
        "--loads",
        type=int,
        metavar="N",
        default=min(len(LOAD_CORES), load.MOST_LOADS),
        help="processes of the load, each on a core of its own while there are; default: %(default)s here",
    )
    parser.add_argument("--machine", help="its name in the results; default: processor and cores")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: benchmarks/results/<date>-<machine>"
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (FULL_ROUNDS if options.full else MAIN_ROUNDS)
    options.seconds = options.seconds or (FULL_SECONDS if options.full else MAIN_SECONDS)
    options.cells = options.cells or [cell.name for cell in CELLS if options.full or cell.main]
    options.servers = options.servers or [name for name, it in COMPETITORS.items() if options.full or it.main]
    return options


def prepare(cells: list[Cell], servers: list[str]) -> None:
    """Build and install what these need."""
    installing.build_yardstick()
    if any(COMPETITORS[name].runtime for name in servers):
        installing.install_from_npm()
    if any(cell.load.tls for cell in cells):
        installing.make_certificate()
    allow_many_files()


def main() -> int:
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers and loads are stopped on the way out
    cells = [BY_NAME[name] for name in BY_NAME if name in options.cells]
    prepare(cells, options.servers)
    results = recording.start(
        options={"rounds": options.rounds, "seconds": options.seconds, "full": options.full},
        command=" ".join(["python", "benchmarks/bench.py", *sys.argv[1:]]),
        machine=options.machine,
        cores=(SERVER_CORE, LOAD_CORES[: options.loads]),
    )
    place = options.out or recording.new_place(results)
    about = results["machine"]
    print(f"{about['processor']}, {about['cores']} cores; {about['kernel']}")
    print(", ".join(f"{name} {version}" for name, version in results["versions"].items()))
    print(f"{options.rounds} rounds of {options.seconds:g} s", end="; ")
    print(f"servers on core {SERVER_CORE}, {recording.said(results['machine']['load_cores'])}")
    if SERVER_CORE in LOAD_CORES:
        print("which they share: rates and latencies say little")
    began = time.monotonic()
    for cell in cells:
        results["cells"][cell.name] = run_cell(
            cell, options.servers, options.rounds, options.seconds, options.loads
        )
        results["minutes"] = round((time.monotonic() - began) / 60, 1)
        recording.save(results, place)  # after each cell: what was measured is kept whatever happens next
        print(f"\n{tables.plain(cell.name, results['cells'][cell.name])}", flush=True)
    report.write(place)
    print(f"\n{place / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
