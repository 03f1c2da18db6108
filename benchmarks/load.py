"""
The load on a server: what a cell asks for, and a run of it by processes of generator.py, on cores of their
own.

`measure` gives what one run found, `holding` keeps idle connections open.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from installing import CERTIFICATE, HERE
from processes import LOAD_CORES, Failed, Server, first_line, on_core, stolen_seconds, stop

GENERATOR = (sys.executable, str(HERE / "generator.py"))
LOAD_SECONDS = 180  # more than any load may take
MOST_LOADS = 3
SPLIT = (
    "echo",
    "storm",
)  # what several processes can do together; the others are one that knows all connections
PERCENTILES = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}


@dataclass(frozen=True)
class Load:
    """
    What the clients do.

    mode: echo; fanout, one connection sends and all receive; storm of opening handshakes; idle.
    connections: how many, or with storm how many at a time.
    size: of a message's payload, in bytes.
    in_flight: messages written at once on a connection, before their answers are waited for.
    kind: binary; text, ASCII; utf8, mixed; ticker, JSON.
    stuck: how many of the connections never read.
    rate: messages a second, whatever the answers do; None: the next when an answer is there.
    """

    mode: str
    connections: int
    size: int = 64
    in_flight: int = 1
    kind: str = "binary"
    deflate: bool = False
    stuck: int = 0
    tls: bool = False
    rate: float | None = None


def parts(load: Load, number: int) -> list[Load]:
    """Return the loads of so many processes, which are that load together."""
    number = min(number, load.connections) if load.mode in SPLIT else 1
    rate = load.rate / number if load.rate else None
    share, more = divmod(load.connections, number)
    return [replace(load, connections=share + (at < more), rate=rate) for at in range(number)]


@contextlib.contextmanager
def generators(
    load: Load, server: Server, seconds: float, number: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """Run the processes of a load, and give them when all their connections are open."""
    running: list[subprocess.Popen[str]] = []
    try:
        for at, part in enumerate(parts(load, number)):
            plan = {
                "load": asdict(part),
                "port": server.port,
                "cafile": str(CERTIFICATE) if load.tls else None,
                "pids": server.pids,
                "seconds": seconds,
                "seed": at,
            }
            with on_core(LOAD_CORES[at % len(LOAD_CORES)]):
                running.append(start(json.dumps(plan)))
        for process in running:
            if first_line(process, LOAD_SECONDS) != "ready":
                raise Failed(last_words_of(process))
        yield running
    finally:
        for process in running:
            stop(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # type: ignore[union-attr]


def start(plan: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*GENERATOR, plan], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def last_words_of(process: subprocess.Popen[str]) -> str:
    stop(process)
    assert process.stderr
    lines = process.stderr.read().strip().splitlines()
    return lines[-1] if lines else f"the load ended with status {process.returncode}, and said nothing"


def measure(load: Load, server: Server, seconds: float, number: int) -> dict[str, Any]:
    """Put the load on a server, from so many processes. Raises Failed for an answer wrong or missing."""
    with generators(load, server, seconds, number) as running:
        began, stolen = time.monotonic(), stolen_seconds()
        for process in running:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        found = []
        for process in running:
            line = first_line(process, LOAD_SECONDS)
            if not line:
                raise Failed(last_words_of(process))
            found.append(json.loads(line))
        share = (stolen_seconds() - stolen) / (time.monotonic() - began)
    return together(found, load) | {"stolen_share": round(share, 3)}


def together(found: list[dict[str, Any]], load: Load) -> dict[str, Any]:
    """Return one run from those of its processes, whose windows are the same but for milliseconds."""
    first = found[0]
    rate = sum(it["count"] / it["seconds"] for it in found)
    latencies = sorted(tuple(pair) for it in found for pair in it["latencies"])
    run = {
        "loads": len(found),
        "seconds": round(first["seconds"], 4),
        "count": sum(it["count"] for it in found),
        "rate": round(rate, 1),
        "wire_bytes": round(sum(it["received_bytes"] for it in found) / sum(it["count"] for it in found), 1),
        "server_cpu_us": round(first["server_ns"] / 1000 / first["seconds"] / rate, 4),
    }
    for name in ("server_cpu_share", "server_wait_share"):
        run[name] = round(first[name], 3)
    for name in ("load_cpu_share", "load_wait_share"):
        run[name] = round(median(it[name] for it in found), 3)
    for name, part in PERCENTILES.items():
        run[name] = round(percentile(latencies, part) / 1000, 1)
    if load.stuck:
        run["stuck_closed"] = first["stuck_closed"]
    if load.rate:
        run |= {"rate_due": round(load.rate, 1), "late": sum(it["late"] for it in found)}
    return run


def percentile(latencies: Sequence[tuple[int, int]], part: float) -> int:
    """Return the least of (value, count), ascending, that so large a part of all is not above."""
    wanted, seen = part * sum(count for _, count in latencies), 0
    for value, count in latencies:
        seen += count
        if seen >= wanted:
            return value
    return 0


@contextlib.contextmanager
def holding(load: Load, server: Server) -> Iterator[None]:
    """Hold idle connections. Raises Failed when they do not all open."""
    with generators(load, server, 0, 1):
        yield
