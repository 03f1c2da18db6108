"""Running a server as a program's whole purpose: an event loop, signals, a line for people.

In: what `serve` takes. Out: nothing until a signal ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastws._kernels import kernels
from fastws.server import Server, serve
from fastws.tls import server_context
from fastws.uri import authority

Lifespan = Callable[[Server], AbstractAsyncContextManager[Any]]


def run(
    handler: object = None,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int | None = 8765,
    *,
    lifespan: Lifespan | None = None,
    ready: Callable[[Server], object] | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
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
        certfile: for TLS, a PEM file with the server's certificate and those between it and the root.
            SIGHUP reads it again, for connections to come. Or give a context, as `ssl`.
        keyfile: a PEM file with its key, not encrypted; None: that is in certfile.

    Raises: OSError when an address cannot be used, and ssl.SSLError, which is one, for files that
        are none of TLS; RuntimeError inside a running event loop.
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
    context: Callable[[], ssl.SSLContext] | None = None
    if certfile is not None:
        if options.get("ssl") is not None:
            raise ValueError("give one of certfile and ssl")
        context = functools.partial(server_context, certfile, keyfile)
        options["ssl"] = context()
    elif keyfile is not None:
        raise ValueError("keyfile is given, and no certfile")
    main = _run(serve(handler, host, port, **options), lifespan, ready, context)
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


async def _run(
    serving: serve,
    lifespan: Lifespan | None,
    ready: Callable[[Server], object] | None,
    context: Callable[[], ssl.SSLContext] | None,
) -> None:
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

    def reload() -> None:
        if server is None or context is None:
            return  # the files have just been read
        try:
            server.reload_tls(context())
        except (OSError, ValueError) as error:
            server.logger.error("the certificate stays as it was: %s", error)
        else:
            server.logger.info("connections to come get the certificate that was read now")

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop}
    if context is not None:
        handlers[signal.SIGHUP] = reload
    # Before anybody can connect: a signal that comes then is not lost, and does not kill.
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
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
        for number in handlers:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def describe(server: Server) -> str:
    """Return one line for people: addresses, kernels, loop, limits."""
    places = []
    scheme = "ws" if server._settings.ssl is None else "wss"
    for sock in server.sockets:
        if sock.family == socket.AF_UNIX:
            places.append(f"unix:{sock.getsockname()}")
        else:
            host, port = sock.getsockname()[:2]
            places.append(f"{scheme}://{authority(host, port)}")
    loop = type(server.get_loop()).__module__.partition(".")[0]
    settings = server._settings
    return (
        f"fastws listens on {', '.join(places)} (kernels {kernels()}, loop {loop}, "
        f"at most {settings.max_connections} connections, messages "
        f"{'of any size' if settings.max_size is None else f'up to {settings.max_size} bytes'})"
    )
