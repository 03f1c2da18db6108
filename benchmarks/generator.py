"""
One run of fastws' load generator, `fastws._load`, in a process of its own, for load.py.

    generator.py PLAN    JSON: `load` (load.Load's fields), `port`, `cafile`, `pids`, `seconds`, `seed`

Prints "ready" when its connections are open. With mode idle it holds them until stdin ends. Else it measures
when a line has come on stdin, and prints what it found as JSON, with latencies as (nanoseconds, count). The
first error of any kind ends it: the status is 1, and stderr says what was wrong.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Sequence
from typing import Any

from processes import processor_ns

from fastws._load import Load, LoadError, Sample

SOURCES = 200  # addresses in 127.0.0.0/8: for more ports than one has
WARM_UP_SECONDS = 0.5
OPEN_SECONDS = 120.0
STEP_SECONDS = 0.1


def made(plan: dict[str, Any]) -> Load:
    asked = plan["load"]
    return Load(
        address="127.0.0.1",
        port=plan["port"],
        authority=f"localhost:{plan['port']}",
        mode=asked["mode"],
        connections=asked["connections"],
        in_flight=asked["in_flight"],
        rate=asked["rate"],
        kind=asked["kind"],
        sizes=((asked["size"], 1.0),),
        deflate=asked["deflate"],
        stuck=asked["stuck"],
        tls=asked["tls"],
        server_name="localhost",
        cafile=plan["cafile"],
        sources=SOURCES,
        seed=plan["seed"],
        strict=True,
    )


def run_for(load: Load, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        load.step(min(left, STEP_SECONDS))


def open_all(load: Load, connections: int) -> None:
    """Open the connections; a storm opens its own all the time."""
    end = time.monotonic() + OPEN_SECONDS
    while load.opened() < connections:
        load.step(STEP_SECONDS / 10)
        if time.monotonic() > end:
            raise LoadError(f"{load.opened()} connections after {OPEN_SECONDS:g} seconds, of {connections}")


def hold(load: Load) -> None:
    while not select.select([sys.stdin], [], [], 0)[0]:
        load.step(STEP_SECONDS)


def measure(load: Load, plan: dict[str, Any]) -> dict[str, Any]:
    pids, own = tuple(plan["pids"]), (os.getpid(),)
    load.start()
    run_for(load, WARM_UP_SECONDS)
    load.take()
    before = *processor_ns(own), *processor_ns(pids)
    run_for(load, plan["seconds"])
    after = *processor_ns(own), *processor_ns(pids)
    return figures(load.take(), [end - start for start, end in zip(before, after, strict=True)], plan["load"])


def figures(sample: Sample, times: Sequence[int], asked: dict[str, Any]) -> dict[str, Any]:
    count = sample.handshakes if asked["mode"] == "storm" else sample.messages
    if not count:
        raise LoadError(f"no answer in {sample.seconds:.1f} seconds")
    if asked["deflate"] and sample.uncompressed:
        raise LoadError(f"{sample.uncompressed} of {count} answers were not compressed")
    window = sample.seconds * 1e9
    shares = ("load_cpu_share", "load_wait_share", "server_cpu_share", "server_wait_share")
    return {
        "seconds": sample.seconds,
        "count": count,
        "received_bytes": sample.received_bytes,
        "server_ns": times[2],
        "late": sample.late,
        "stuck_closed": sample.stuck_closed,
        "latencies": sample.latencies,
        **{name: spent / window for name, spent in zip(shares, times, strict=True)},
    }


def main(plan: dict[str, Any]) -> int:
    try:
        load = made(plan)
        if plan["load"]["mode"] != "storm":
            open_all(load, plan["load"]["connections"])
        print("ready", flush=True)
        if plan["load"]["mode"] == "idle":
            hold(load)
        elif sys.stdin.readline():
            print(json.dumps(measure(load, plan)))
    except LoadError as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
