"""
Starting servers: what `serve` takes, judged before anything is opened.

In: a handler, where to listen, options. Out: a running `Server`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastws._settings import Settings
from fastws.backplane import Relay, engine_of
from fastws.checks import Queue, number, numbers, queue_limits, text_type
from fastws.extensions import Deflate, compression_of
from fastws.forwarded import SOURCES, Proxies
from fastws.handler import EVENTS, handler_source
from fastws.handshake import SERVER_HEADER, Policy
from fastws.listening import listen, listen_unix
from fastws.opening import negotiator
from fastws.server import Server
from fastws.tls import check_server_context
from fastws.transports import check as check_transport

if TYPE_CHECKING:
    from fastws._connection import Connection
    from fastws.http11 import Request, Response
    from fastws.server import Logger

Hook = Callable[..., Any]

# Descriptors kept back from connections: files, databases, listening sockets.
SPARE_DESCRIPTORS = 256


def default_max_connections() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 2**31
    return max(limit - SPARE_DESCRIPTORS, limit // 2)


class serve:
    """
    Serve WebSocket connections: `async with serve(...) as server`, or `server = await serve(...)`.

    Args:
        handler: a coroutine function, called with each connection (`async def handler(ws)`); a class
            with callbacks (an instance per connection), an object with them (shared), or a
            factory of such; see `Handler`. Or give functions: on_open, on_message, on_close, on_ping,
            on_pong, on_drain, on_error, each called with the connection first.
        host: a name or address, or several; None is every interface. Names may stand for several
            addresses, IPv4 and IPv6: the server listens on all.
        port: a TCP port; 0, and None, picks a free one, see `Server.sockets`.
        unix: listen on this path instead.
        sock: listen on this socket, or these, instead; bound, and left open at the end.
        origins: the Origin values that are allowed: strings, compiled patterns that match the
            whole value, and None for a request without one. None: every origin.
        subprotocols: those that the server speaks, best first.
        select_subprotocol: called with the connection and the offered subprotocols; returns one
            of them or None. Instead of the first of `subprotocols` that is offered.
        compression: "deflate", or a `Deflate` with settings, for permessage-deflate (RFC 7692) with
            clients that offer it. None, the default: never.
        process_request: called with the connection and the `Request`; returns a `Response` to
            answer with that and close, None to go on. May be `async def`. Gets every valid HTTP
            request: the place for health checks, pages and authentication.
        process_response: called with the connection, the `Request` and the `Response` that will
            be sent; may return another one. May be `async def`.
        server_header: the Server field's value; None leaves it out.
        text_as: "str", or "bytes" to get text as validated UTF-8.
        open_timeout: seconds for the opening handshake, default 10.
        ping_interval: seconds between keepalive Pings, default 20.
        ping_timeout: seconds without any byte from the peer after a Ping until it is dropped, default 20.
        close_timeout: seconds for the closing handshake, default 10.
        max_size: bytes of payload of an incoming message, default 1 MiB.
        max_queue: messages waiting for `recv()` at which nothing more is received, default 16, until
            a quarter of that is left; or both figures, as a tuple.
        write_limit: bytes waiting for a peer over which `await ws.send()` waits, default 64 KiB.
        write_cap: bytes waiting for a peer over which it is dropped, default 4 MiB.
        max_connections: open connections; more get 503. Default: the descriptor limit less 256.
        max_opening: opening handshakes under way; more get 503. Default: a quarter of
            max_connections, at least 256.
        backlog: of the listening sockets, default 4096.
        transport: "reactor", epoll in C, or "streams", the event loop's own transports. Default: the
            reactor, where the system has epoll and the loop can watch a descriptor.
        trusted_proxies: addresses and networks, "10.0.0.7" or "10.0.0.0/8", of proxies that say who the
            client is; "unix" is whoever connects to a Unix socket, "*" is whoever connects. `remote_address`
            is what they say then. None: nobody is believed.
        address_from: how they say it: "X-Forwarded-For" (default), "Forwarded" (RFC 7239), or "PROXY" for
            version 1 or 2 of the PROXY protocol, with which each of their connections has to begin. What else
            a request claims is not looked at.
        reuse_port: let other processes listen on the same port.
        ssl: an `ssl.SSLContext` with a certificate, for TLS; None: without. See `Server.reload_tls`.
        logger: default `logging.getLogger("fastws.server")`.
        backplane: a URL, so that what is published reaches the subscribers of other servers as well:
            "local:///directory", "redis://host", "nats://host"; see docs/backplane.md. Default: what the
            environment has as FASTWS_BACKPLANE; "" is none.
        on_gap: called with the server and the topics, a frozenset, of which messages of other servers
            may be missing; with None when it can be any.

    None switches a limit or timeout off.

    Raises: OSError when an address cannot be used; ValueError and TypeError for bad arguments.
    """

    def __init__(
        self,
        handler: object = None,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        on_open: Hook | None = None,
        on_message: Hook | None = None,
        on_close: Hook | None = None,
        on_ping: Hook | None = None,
        on_pong: Hook | None = None,
        on_drain: Hook | None = None,
        on_error: Hook | None = None,
        unix: str | os.PathLike[str] | None = None,
        sock: socket.socket | Iterable[socket.socket] | None = None,
        origins: Sequence[Any] | None = None,
        subprotocols: Sequence[str] | None = None,
        select_subprotocol: Callable[[Connection, Sequence[str]], str | None] | None = None,
        compression: str | Deflate | None = None,
        process_request: Callable[[Connection, Request], Awaitable[Response | None] | Response | None]
        | None = None,
        process_response: Callable[
            [Connection, Request, Response], Awaitable[Response | None] | Response | None
        ]
        | None = None,
        server_header: str | None = SERVER_HEADER,
        text_as: str = "str",
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_size: int | None = 2**20,
        max_queue: Queue = 16,
        write_limit: int | None = 64 * 1024,
        write_cap: int | None = 4 * 1024 * 1024,
        max_connections: int | None = None,
        max_opening: int | None = None,
        backlog: int = 4096,
        transport: str | None = None,
        trusted_proxies: Sequence[str] | None = None,
        address_from: str = SOURCES[0],
        reuse_port: bool = False,
        ssl: tls.SSLContext | None = None,
        logger: Logger | None = None,
        backplane: object = None,
        on_gap: Callable[[Server, frozenset[str] | None], object] | None = None,
    ) -> None:
        check_transport(transport)
        self._backplane = engine_of(backplane)
        if on_gap is not None and not callable(on_gap):
            raise TypeError(f"on_gap is {on_gap!r}, expected a function")
        self._on_gap = on_gap
        text_type(text_as)
        functions = dict(
            zip(EVENTS, (on_open, on_message, on_close, on_ping, on_pong, on_drain, on_error), strict=True)
        )
        self._make_handler = handler_source(handler, {k: v for k, v in functions.items() if v is not None})
        numbers(
            open_timeout=open_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_size=max_size,
            write_limit=write_limit,
            write_cap=write_cap,
        )
        queue_limits(max_queue)
        if ssl is not None:
            check_server_context(ssl)
        number("max_connections", max_connections, 1)
        number("max_opening", max_opening, 1)
        if port is not None and (
            isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535
        ):
            raise ValueError(f"port is {port!r}, allowed are 0 to 65535")
        names = [host] if host is None or isinstance(host, str) else host
        if not isinstance(names, Sequence) or not all(
            name is None or isinstance(name, str) for name in names
        ):
            raise TypeError(f"host is {host!r}, expected a name or address, or a sequence of them")
        if isinstance(backlog, bool) or not isinstance(backlog, int):
            raise TypeError(f"backlog is {backlog!r}, expected an int")
        for name, hook in (("process_request", process_request), ("process_response", process_response)):
            if hook is not None and not callable(hook):
                raise TypeError(f"{name} is {hook!r}, expected a function")
        if sum((unix is not None, sock is not None, host is not None or port is not None)) > 1:
            raise ValueError("give one of host and port, unix, and sock")
        self._policy = Policy(
            origins=origins,
            subprotocols=subprotocols,
            select_subprotocol=select_subprotocol,
            compression=compression_of(compression),
            server_header=server_header,
        )
        if max_connections is None:
            max_connections = default_max_connections()
        if max_opening is None:
            max_opening = max(max_connections // 4, 256)
        self._options: dict[str, Any] = {
            "policy": self._policy,
            "make_handler": self._make_handler,
            "negotiate": negotiator(process_request, process_response),
            "logger": logger or logging.getLogger("fastws.server"),
            "max_size": max_size,
            "max_queue": max_queue,
            "text_as": text_as,
            "write_limit": write_limit,
            "write_cap": write_cap,
            "open_timeout": open_timeout,
            "ping_interval": ping_interval,
            "ping_timeout": ping_timeout,
            "close_timeout": close_timeout,
            "max_connections": max_connections,
            "max_opening": max_opening,
            "ssl": ssl,
            "proxies": None if trusted_proxies is None else Proxies(trusted_proxies, address_from),
        }
        self._where = (host, port, unix, sock)
        self._backlog = backlog
        self._reuse_port = reuse_port
        self._transport = transport
        self._server: Server | None = None

    async def _serve(self) -> Server:
        loop = asyncio.get_running_loop()
        sockets, own = await self._listen(loop)
        try:
            server = Server(loop, self._options["logger"], self._options["close_timeout"], self._transport)
            settings = Settings(
                server=server, on_idle=server._on_idle, topics=server._topics, **self._options
            )
            if self._on_gap is not None:
                server._gap_listeners.append(self._on_gap)
            if self._backplane is not None:
                server.backplane = Relay(
                    server._topics, self._backplane, loop, self._options["logger"], server._on_gap
                )
            # Before anybody can connect, so that what is kept elsewhere is known.
            server._carrier.hold()
            try:
                if server.backplane is not None:
                    await server.backplane.start()
                await server._start(settings, sockets, own, self._backlog)
            except BaseException:
                if server.backplane is not None:
                    await server.backplane.close()
                raise
            finally:
                server._carrier.release()
        except BaseException:
            if own:
                for sock in sockets:
                    sock.close()
            raise
        if self._where[2] is not None:
            server._unix_path = os.fspath(self._where[2])
        self._server = server
        return server

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> tuple[list[socket.socket], bool]:
        host, port, unix, sock = self._where
        if sock is not None:
            given = [sock] if isinstance(sock, socket.socket) else list(sock)
            for one in given:
                one.listen(self._backlog)
            return given, False
        if unix is not None:
            return [listen_unix(os.fspath(unix), self._backlog)], True
        return await listen(loop, host, port or 0, self._backlog, self._reuse_port), True

    def __await__(self) -> Generator[Any, None, Server]:
        return self._serve().__await__()

    async def __aenter__(self) -> Server:
        return await self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


def unix_serve(handler: object = None, path: str | os.PathLike[str] | None = None, **options: Any) -> serve:
    """Serve on a Unix socket at `path`; takes what `serve` takes but host and port."""
    return serve(handler, unix=path, **options)
