"""Running a server as a program's whole purpose: an event loop, signals, a line for people.

In: what `serve` takes. Out: nothing until a signal ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastws._kernels import kernels
from fastws.server import Server, serve

Lifespan = Callable[[Server], AbstractAsyncContextManager[Any]]


def run(
    handler: object = None,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int | None = 8765,
    *,
    lifespan: Lifespan | None = None,
    ready: Callable[[Server], object] | None = None,
    **options: Any,
) -> None:
    """
    Serve until SIGINT or SIGTERM, on uvloop. Blocks.

    The first signal closes every connection with 1001, within `close_timeout`; a second one drops
    them at once.

    Args:
        handler, host, port, options: as for `serve`.
        lifespan: called with the server; an async context manager around its life, where a
            producer starts and stops.
        ready: called with the server when it accepts connections.

    Raises: OSError when an address cannot be used; RuntimeError inside a running event loop.
    """
    import uvloop

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(
            "run() starts an event loop, and one is running: use `async with fastws.serve(...)` here"
        )

    if options.get("unix") is not None or options.get("sock") is not None:
        host = port = None
    main = _run(serve(handler, host, port, **options), lifespan, ready)
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
        return
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _run(serving: serve, lifespan: Lifespan | None, ready: Callable[[Server], object] | None) -> None:
    loop = asyncio.get_running_loop()
    server: Server | None = None
    signals = 0

    def stop() -> None:
        nonlocal signals
        signals += 1
        if server is None:
            return
        if signals == 1:
            server.close()
        else:
            server.abort()
            for task in list(server._settings.tasks):
                task.cancel()

    # Before anybody can connect: a signal that comes then is not lost, and does not kill.
    for number_ in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number_, stop)
    try:
        server = await serving
        try:
            async with lifespan(server) if lifespan is not None else _nothing():
                if ready is not None:
                    ready(server)
                if signals:
                    server.close()
                await server.wait_closed()
        finally:
            server.close()
            await server.wait_closed()
    finally:
        for number_ in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number_)


@contextlib.asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def describe(server: Server) -> str:
    """Return one line for people: addresses, kernels, loop, limits."""
    places = []
    for sock in server.sockets:
        if sock.family == socket.AF_UNIX:
            places.append(f"unix:{sock.getsockname()}")
        else:
            host, port = sock.getsockname()[:2]
            places.append(f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}")
    loop = type(server.get_loop()).__module__.partition(".")[0]
    settings = server._settings
    return (
        f"fastws listens on {', '.join(places)} (kernels {kernels()}, loop {loop}, "
        f"at most {settings.max_connections} connections, messages "
        f"{'of any size' if settings.max_size is None else f'up to {settings.max_size} bytes'})"
    )
