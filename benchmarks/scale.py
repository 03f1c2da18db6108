"""
Very many connections on one machine: what each costs, and what clients notice of the others coming and going.

    python benchmarks/scale.py                      # 90,000 connections to 5 workers
    python benchmarks/scale.py --connections 20000 --workers 2 --seconds 30

Every connection subscribes to one topic; one worker publishes to it, and a `local` backplane brings that to
the others. Keepalive Pings go out as by default. Most connections are held by processes of the load generator
in C. A tenth comes and goes, so many a minute as `--churn` says: these are fastws's own clients, and time
their opening handshakes and the way of each message from `publish` on. Prints JSON.

It needs Linux, and `ulimit -n 20000` or more for each process.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import multiprocessing
import os
import pathlib
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import fastws
from fastws._load import Load
from fastws.bench.observing import Processes

SOURCES = 200
OPEN_SECONDS = 240.0
LOADS_HOLD = 16_000  # each; what is left of 20,000 descriptors is room
SERVER = """
import asyncio, contextlib, sys, time
import fastws

class Handler(fastws.Handler):
    def on_open(self, ws):
        ws.subscribe("all")

async def publish(server, every):
    while True:
        await asyncio.sleep(every)
        server.publish("all", f"{time.monotonic_ns():064d}")

@contextlib.asynccontextmanager
async def feed(server):
    task = asyncio.create_task(publish(server, float(sys.argv[2]))) if fastws.worker_id() == 0 else None
    yield
    if task:
        task.cancel()

if __name__ == "__main__":
    fastws.run(Handler, port=0, workers=int(sys.argv[1]), lifespan=feed,
               started=lambda line: print(line, flush=True))
"""


@contextlib.contextmanager
def serving(workers: int, every: float) -> Any:
    """Run the server; give its port, and its workers' process ids."""
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        (place / "server.py").write_text(SERVER)
        env = {**os.environ, "PYTHONPATH": str(pathlib.Path(fastws.__file__).parents[1])}
        process = subprocess.Popen(
            [sys.executable, "server.py", str(workers), str(every)],
            cwd=place,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout
            found = re.search(r"ws://127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found
            children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield int(found[1]), [int(pid) for pid in children.split()]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# ---------------------------------------------------------------- those that stay


def hold(port: int, connections: int, line: Any) -> None:
    """Hold connections until told to end, and say what came; runs in a process of its own."""
    load = Load(
        address="127.0.0.1",
        port=port,
        authority=f"127.0.0.1:{port}",
        mode="idle",
        connections=connections,
        expected="any",
        sources=SOURCES,
        seed=os.getpid(),
    )
    end = time.monotonic() + OPEN_SECONDS
    while load.opened() < connections and time.monotonic() < end:
        load.step(0.1)
    line.send(load.opened())
    totals: collections.Counter[str] = collections.Counter()
    load.take()
    while not line.poll():
        load.step(0.5)
        sample = load.take()
        totals["messages"] += sample.messages
        totals.update(sample.errors)
    line.recv()
    line.send((load.opened(), dict(totals)))
    load.close()


# ---------------------------------------------------------------- those that come and go


async def churn(port: int, count: int, a_minute: float, seconds: float) -> dict[str, Any]:
    openings: list[float] = []
    deliveries: list[float] = []
    errors: collections.Counter[str] = collections.Counter()
    life = 60.0 * count / a_minute

    async def one() -> None:
        try:
            begin = time.monotonic()
            async with fastws.connect(f"ws://127.0.0.1:{port}", proxy=None) as ws:
                openings.append(time.monotonic() - begin)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(listen(ws), life)
        except (OSError, fastws.ConnectionClosed, fastws.InvalidHandshake) as error:
            errors[type(error).__name__] += 1

    async def listen(ws: fastws.Connection) -> None:
        async for message in ws:
            arrived = time.monotonic_ns()
            deliveries.append((arrived - int(message)) / 1e9)

    tasks = set()
    end = time.monotonic() + seconds
    due = time.monotonic()
    while time.monotonic() < end:
        due += 60.0 / a_minute
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "opened": len(openings),
        "open_ms": percentiles(openings),
        "deliveries": len(deliveries),
        "publish_to_handler_ms": percentiles(deliveries),
        "errors": dict(errors),
    }


def percentiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {
        "p50": round(cuts[49] * 1e3, 3),
        "p99": round(cuts[98] * 1e3, 3),
        "max": round(max(values) * 1e3, 3),
    }


def come_and_go(port: int, count: int, a_minute: float, seconds: float, line: Any) -> None:
    import uvloop

    with contextlib.closing(uvloop.new_event_loop()) as loop:
        line.send(loop.run_until_complete(churn(port, count, a_minute, seconds)))


# ---------------------------------------------------------------- the whole


def kernel_memory() -> dict[str, int]:
    """Return bytes of the kernel's: its structures (sockets, descriptors, epoll), and what sockets hold."""
    slab = re.search(r"^Slab:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)
    pages = re.search(r"^TCP:.* mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    assert slab and pages
    return {"slab": int(slab[1]) * 1024, "buffers": int(pages[1]) * resource.getpagesize()}


def measure(connections: int, workers: int, every: float, a_minute: float, seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    moving = connections // 10
    staying = connections - moving
    shares = [staying // loads for loads in [-(-staying // LOADS_HOLD)] for _ in range(loads)]
    shares[0] += staying - sum(shares)
    with serving(workers, every) as (port, pids):
        servers = Processes(tuple(pids))
        time.sleep(1)
        empty, kernel_before = servers.memory(), kernel_memory()
        begin = time.monotonic()
        holders = []
        for share in shares:
            ours, theirs = context.Pipe()
            holder = context.Process(target=hold, args=(port, share, theirs))
            holder.start()
            holders.append((ours, holder))
        held = sum(ours.recv() for ours, _ in holders)
        opened_in = time.monotonic() - begin
        time.sleep(5)
        full, kernel_after = servers.memory(), kernel_memory()
        ours, theirs = context.Pipe()
        mover = context.Process(target=come_and_go, args=(port, moving, a_minute, seconds, theirs))
        before = servers.times()
        begin = time.monotonic()
        mover.start()
        churned = ours.recv()
        window = time.monotonic() - begin
        use = servers.times().since(before, window)
        mover.join(30)
        heard = 0
        left = 0
        errors: collections.Counter[str] = collections.Counter()
        for line, holder in holders:
            line.send("end")
            there, totals = line.recv()
            left += there
            heard += totals.pop("messages", 0)
            errors.update(totals)
            holder.join(30)
    assert empty is not None and full is not None
    deliveries = heard + churned["deliveries"]
    return {
        "connections": held,
        "still_open_at_the_end": left,
        "workers": workers,
        "load_processes": len(holders),
        "open_seconds": round(opened_in, 2),
        "bytes_per_connection": round((full - empty) / held),
        "kernel_bytes_per_connection_both_ends": {
            name: round((kernel_after[name] - kernel_before[name]) / held) for name in kernel_before
        },
        "window_seconds": round(window, 1),
        "deliveries_to_those_that_stay": heard,
        "server_cores": round(use.cpu_seconds / window, 3),
        "server_cpu_us_per_delivery_all_in": round(use.cpu_seconds * 1e6 / deliveries, 3)
        if deliveries
        else None,
        "errors": dict(errors),
        "churn": {"a_minute": a_minute, **churned},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=90_000)
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="between messages to all")
    parser.add_argument("--churn", type=float, metavar="N", help="connections a minute; a tenth of all")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    print(
        json.dumps(
            measure(
                options.connections,
                options.workers,
                options.every,
                options.churn or options.connections / 10,
                options.seconds,
            ),
            indent=1,
        )
    )
