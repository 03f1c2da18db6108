"""
The processes of one run: a server on one core, the load on another, and what was measured from outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from competitors import COMPETITORS, LOAD

START_SECONDS = 20
LOAD_SECONDS = 180  # more than any load may take
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]  # the same when there is only one


class Failed(Exception):
    """A server that did not start, or a load that got a wrong answer; the text says what."""


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


@contextlib.contextmanager
def serving(server: str, arguments: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Run a server, as (process id, port)."""
    with tempfile.TemporaryFile("w+") as errors:
        with on_core(SERVER_CORE):
            process = subprocess.Popen(
                COMPETITORS[server].command(arguments),
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


def run_memory(connections: int, pid: int, port: str) -> dict[str, Any]:
    """Hold the idle connections, and compare the server's memory with what it was before."""

    def hold(number: int) -> int:
        with on_core(LOAD_CORE):
            process = subprocess.Popen(
                [str(LOAD), "idle", "-c", str(number), "-d", str(LOAD_SECONDS), port],
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
    return {"connections": connections, "bytes": (hold(connections) - before) / connections}
