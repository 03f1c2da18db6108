"""
Who is compared: how each server is started, what it cannot do, and how to get it.

A server gets the cell's arguments after its port. It prints `listening HOST:PORT`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVERS = HERE / "servers"
BUILD = HERE.parent / "build" / "bench"
LIMIT, LOAD = BUILD / "limit", BUILD / "load"
YARDSTICK = "limit"
BUN_VERSION = "1.4.5"
INSTALL_SECONDS = 300


@dataclass(frozen=True)
class Competitor:
    """
    One server.

    start: the command, without port and arguments; where it is empty the server is `<name>_echo.py`.
    lacks: arguments that it is left out for, and why.
    ignores: arguments that change nothing for it, and are not passed on.
    package: what has to be installed for Python.
    only: an argument; it is left out where that is not asked for.
    """

    name: str
    start: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    lacks: dict[str, str] = field(default_factory=dict)
    ignores: frozenset[str] = frozenset()
    package: str = ""
    only: str = ""

    def lack(self, arguments: tuple[str, ...]) -> str | None:
        """Return why it cannot do what these arguments ask for, or None if it can."""
        if self.only and self.only not in arguments:
            return f"is for the cells with {self.only}"
        return next((self.lacks[argument] for argument in arguments if argument in self.lacks), None)

    def missing(self) -> str | None:
        """Return how to get it, or None if it is there."""
        if self.name == "bun":
            if bun():
                return None
            return f"not installed: needs npm (Debian: npm) for bun {BUN_VERSION}, or BUN=/path/to/bun"
        if self.package and not importlib.util.find_spec(self.package):
            return f"not installed: {sys.executable} -m pip install {self.package}"
        return None

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        start = self.start or (sys.executable, str(SERVERS / f"{self.name}_echo.py"))
        if self.name == "bun":
            start = (bun() or "bun", *start)
        return [*start, "0", *(it for it in arguments if it not in self.ignores), *self.more]


NO_BYTES = "text comes as str only"
NO_ASGI = {"--asgi": "is no server for ASGI"}
UNCOMPRESSED = {"--deflate": "has no compression"}


def uvicorn(name: str, ws: str, package: str) -> Competitor:
    """Return uvicorn with an implementation of WebSockets: what its --ws names."""
    start = (sys.executable, str(SERVERS / "uvicorn_echo.py"))
    return Competitor(
        name, start, ("--ws", ws), ignores=frozenset({"--asgi"}), package=package, only="--asgi"
    )


MODES = frozenset({"--mode", "str", "bytes"})
COMPETITORS = {
    it.name: it
    for it in (
        Competitor(YARDSTICK, (str(LIMIT),), lacks=UNCOMPRESSED, ignores=MODES | {"--asgi"}),
        Competitor("fastws", lacks=NO_ASGI),
        Competitor(
            "coroutines",
            (sys.executable, str(SERVERS / "fastws_echo.py")),
            more=("--coroutines",),
            lacks=NO_ASGI,
        ),
        Competitor("picows", lacks=UNCOMPRESSED | NO_ASGI, package="picows"),
        Competitor("websockets", lacks=NO_ASGI, package="websockets"),
        Competitor("socketify", lacks={"bytes": NO_BYTES} | NO_ASGI, package="socketify"),
        Competitor(
            "bun", (str(SERVERS / "bun_server.js"),), lacks={"bytes": NO_BYTES} | NO_ASGI, ignores=MODES
        ),
        uvicorn("uvicorn-fastws", "fastws.uvicorn:WebSocketProtocol", "uvicorn"),
        uvicorn("uvicorn-sansio", "websockets-sansio", "websockets"),
        uvicorn("uvicorn-wsproto", "wsproto", "wsproto"),
    )
}


def bun() -> str | None:
    """Return where bun is: what BUN in the environment names, or what install_bun has installed."""
    installed = BUILD / "npm" / "node_modules" / ".bin" / "bun"
    return os.environ.get("BUN") or (str(installed) if installed.exists() else None)


def install_bun() -> None:
    """Install bun with npm, if it is not there; without success it will be missing, and that is all."""
    npm = shutil.which("npm")
    if bun() or not npm:
        return
    print(f"installing bun {BUN_VERSION} in {os.path.relpath(BUILD / 'npm')}", flush=True)
    place = ["--prefix", str(BUILD / "npm"), "--no-audit", "--no-fund", "--loglevel", "error"]
    try:
        subprocess.run([npm, "install", *place, f"bun@{BUN_VERSION}"], timeout=INSTALL_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"could not install bun: {error}", file=sys.stderr)


def build() -> None:
    compiler = shutil.which("gcc")
    if not compiler:
        sys.exit("the benchmarks need gcc (Debian: gcc libc6-dev zlib1g-dev)")
    BUILD.mkdir(parents=True, exist_ok=True)
    headers = list(HERE.rglob("*.h"))
    for source, target in ((SERVERS / "limit.c", LIMIT), (HERE / "load" / "load.c", LOAD)):
        newest = max(path.stat().st_mtime for path in (source, *headers))
        if target.exists() and target.stat().st_mtime >= newest:
            continue
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), str(source), "-lz"]
        if subprocess.run(command, check=False).returncode:
            sys.exit(
                f"{source.name} was not built; it needs the headers of zlib (Debian: libc6-dev zlib1g-dev)"
            )


def versions() -> dict[str, str]:
    found = {"gcc": output("gcc", "-dumpfullversion"), "python": output(sys.executable, "-V").split()[-1]}
    for name in ("uvloop", "fastws", "picows", "websockets", "socketify", "uvicorn", "wsproto"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    path = bun()
    found["bun"] = output(path, "--version") if path else "not installed"
    return found


def output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (subprocess.SubprocessError, OSError):
        return "does not run"
    return done.stdout.strip() or "does not run"
