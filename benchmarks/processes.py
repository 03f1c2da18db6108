"""
The processes of one run: a server on one core, the load on another, and what can be seen of them from
outside.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from competitors import COMPETITORS
from installing import BUILD, CERTIFICATE, KEY, MODULES

START_SECONDS = 20
STOP_SECONDS = 5
# node finds its modules; deno keeps what it caches with ours, and looks for no newer one in the meantime.
ENVIRONMENT = {
    "NODE_PATH": str(MODULES),
    "DENO_DIR": str(BUILD / "deno"),
    "DENO_NO_UPDATE_CHECK": "1",
}
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]


def cores_apart(core: int) -> list[int]:
    """Return the cores that share no hardware with one; else the others; else that one itself."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        siblings = {int(it) for part in path.read_text().split(",") for it in ends_of(part)}
    except (OSError, ValueError):
        siblings = set()
    others = [it for it in CORES if it != core]
    return [it for it in others if it not in siblings] or others or [core]


def ends_of(part: str) -> range:
    """Return the numbers that "2" or "2-5" in a list of the kernel's stands for."""
    first, _, last = part.strip().partition("-")
    return range(int(first), int(last or first) + 1)


LOAD_CORES = cores_apart(SERVER_CORE)


class Failed(Exception):
    """A server that did not start, or a load that got a wrong answer; the text says what."""


@dataclass(frozen=True)
class Server:
    """A running server: its processes, and where it listens on 127.0.0.1."""

    pids: tuple[int, ...]
    port: int
    tls: bool


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
        process.wait(STOP_SECONDS)
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


def family(pid: int) -> tuple[int, ...]:
    """Return a process and all that descend from it: some servers work in a child."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return tuple(found)


@contextlib.contextmanager
def serving(server: str, arguments: tuple[str, ...], *, tls: bool = False) -> Iterator[Server]:
    """Run a server on its core."""
    files = ("--cert", str(CERTIFICATE), "--key", str(KEY)) if tls else ()
    with tempfile.TemporaryFile("w+") as errors:
        with on_core(SERVER_CORE):
            process = subprocess.Popen(
                COMPETITORS[server].command((*arguments, *files)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | ENVIRONMENT,
            )
        pids: tuple[int, ...] = (process.pid,)
        try:
            line = first_line(process, START_SECONDS)
            if not line.startswith("listening "):
                raise Failed(f"did not start: {last_words(errors)}")
            pids = family(process.pid)
            yield Server(pids, int(line.rpartition(":")[2]), tls)
        finally:
            stop(process)
            for child in pids[1:]:  # which a parent that had to be killed has left behind
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, 9)


def stolen_seconds() -> float:
    """Return for how many seconds the host has run something else on the cores in use, in all."""
    ticks = [0]
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in {f"cpu{core}" for core in (SERVER_CORE, *LOAD_CORES)}:
            ticks.append(int(fields[7]))
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def processor_ns(pids: tuple[int, ...]) -> tuple[int, int]:
    """Return the nanoseconds for which all threads of processes have run, and have waited for a core."""
    running = waiting = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has ended
                ran, waited, _ = path.read_text().split()
                running += int(ran)
                waiting += int(waited)
    return running, waiting


def anonymous_memory(pids: tuple[int, ...]) -> int:
    """Return the resident anonymous memory of processes in bytes; n sharing a page count 1/n of it each."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss_Anon":
                total += int(value.split()[0]) * 1024
                break
        else:
            raise Failed("this kernel does not report Pss_Anon")
    return total
