"""
Who is compared: how each server is started, and what it cannot do.

A server gets the cell's arguments after its port, and `--cert FILE --key FILE` in the cells over TLS. It
prints `listening HOST:PORT`.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field

from installing import LIMIT, MODULES, NPM, SERVERS, executable

YARDSTICK = "limit"


@dataclass(frozen=True)
class Competitor:
    """
    One server.

    start: what runs, after the runtime; where it is empty the server is `<name>_echo.py`.
    more: arguments that it gets besides the cell's.
    lacks: what it is left out for, and why: arguments for servers, `--tls`, or `--stuck`, subscribers that
        never read.
    ignores: arguments that change nothing for it, and are not passed on.
    package: what has to be installed for Python.
    runtime: what has to be there instead of Python: bun, deno or node.
    main: in `make bench` as well as in `make bench-full`.
    """

    name: str
    start: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    lacks: dict[str, str] = field(default_factory=dict)
    ignores: frozenset[str] = frozenset()
    package: str = ""
    runtime: str = ""
    main: bool = False

    def lack(self, needs: frozenset[str]) -> str | None:
        """Return why it cannot do what is needed, or None if it can."""
        return next((self.lacks[need] for need in sorted(needs) if need in self.lacks), None)

    def missing(self) -> str | None:
        """Return how to get it, or None if it is there."""
        if self.runtime and not executable(self.runtime):
            how = f"npm for {NPM[self.runtime]}" if self.runtime in NPM else "Debian: nodejs"
            return f"not installed: needs {how}, or {self.runtime.upper()}=/path/to/{self.runtime}"
        if self.runtime == "node" and not (MODULES / "ws").exists():
            return f"not installed: needs npm for {NPM['ws']}"
        if self.package and not importlib.util.find_spec(self.package):
            return f"not installed: {sys.executable} -m pip install {self.package}"
        return None

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        """Return how it is started on any free port."""
        if self.name == YARDSTICK:
            before = [str(LIMIT)]
        else:
            before = [executable(self.runtime) or self.runtime if self.runtime else sys.executable]
            *flags, script = self.start or (f"{self.name}_echo.py",)
            before += [*flags, str(SERVERS / script)]
        return [*before, "0", *(it for it in arguments if it not in self.ignores), *self.more]


NO_BYTES = {"bytes": "text comes as str only"}
NO_TLS = {"--tls": "has no TLS"}
UNCOMPRESSED = {"--deflate": "has no compression"}
WAITS = {"--stuck": "its sends wait for those who do not read: nobody would get anything"}
MODES = frozenset({"--mode", "str", "bytes"})


def asgi(
    name: str, *more: str, package: str, main: bool = False, lacks: dict[str, str] | None = None
) -> Competitor:
    """Return a server for asgi_app.py: uvicorn with what its --ws names, or granian."""
    script = "granian_echo.py" if package == "granian" else "uvicorn_echo.py"
    return Competitor(
        name,
        (script,),
        more,
        lacks=NO_BYTES | WAITS | (lacks or {}),
        ignores=MODES,
        package=package,
        main=main,
    )


COMPETITORS = {
    it.name: it
    for it in (
        Competitor(YARDSTICK, lacks=UNCOMPRESSED | NO_TLS, ignores=MODES, main=True),
        Competitor("fastws", main=True),
        Competitor("coroutines", ("fastws_echo.py",), ("--coroutines",), main=True),
        Competitor("streams", ("fastws_echo.py",), ("--streams",)),
        Competitor("picows", lacks=UNCOMPRESSED, package="picows", main=True),
        Competitor("websockets", package="websockets", main=True),
        Competitor("aiohttp", lacks=WAITS, package="aiohttp", main=True),
        Competitor("tornado", lacks=NO_BYTES, package="tornado"),
        Competitor("socketify", lacks=NO_BYTES, package="socketify"),
        asgi("uvicorn-fastws", "--ws", "fastws.uvicorn:WebSocketProtocol", package="uvicorn", main=True),
        asgi("uvicorn-sansio", "--ws", "websockets-sansio", package="uvicorn", main=True),
        asgi("uvicorn-wsproto", "--ws", "wsproto", package="wsproto"),
        asgi("granian", "--interface", "asgi", package="granian", lacks=UNCOMPRESSED),
        asgi("granian-rsgi", "--interface", "rsgi", package="granian", lacks=UNCOMPRESSED, main=True),
        Competitor("node", ("node_server.js",), runtime="node", main=True),
        Competitor("bun", ("bun_server.js",), lacks=NO_BYTES, ignores=MODES, runtime="bun", main=True),
        Competitor(
            "deno",
            ("run", "--no-config", "--allow-net", "--allow-read", "deno_server.js"),
            lacks=NO_BYTES | UNCOMPRESSED,
            ignores=MODES,
            runtime="deno",
        ),
    )
}
