"""
Connecting: from a URI to an open connection, and again when it is lost.

In: a URI and options. Out: a `Connection`, on the reactor of the running loop. RFC 6455 4.1 and
7.2.3; redirects as RFC 9110 15.4.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl as tls
import traceback
import urllib.parse
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from fastws._connection import Connection
from fastws._settings import Settings
from fastws.checks import numbers, queue_limits, text_type
from fastws.client_handshake import USER_AGENT, ClientHandshake
from fastws.dialling import LocalAddress, connect_host, connect_path, disable_nagle
from fastws.exceptions import InvalidMessage, InvalidStatus, SecurityError
from fastws.extensions import Deflate, compression_of
from fastws.headers import Headers, HeadersLike
from fastws.proxy import get_proxy, parse_proxy, tunnel
from fastws.tls import client_context
from fastws.transports import carrier_of, open_client
from fastws.transports import check as check_transport
from fastws.uri import parse_uri

if TYPE_CHECKING:
    from fastws.server import Logger

__all__ = ["backoff", "connect", "process_exception", "unix_connect"]

MAX_REDIRECTS = 10
REDIRECTS = frozenset([300, 301, 302, 303, 307, 308])
# What is for one origin, and no other shall hear.
CREDENTIALS = frozenset(["authorization", "cookie", "proxy-authorization"])
# Answers that may be another one a little later.
RETRIED = frozenset([500, 502, 503, 504])

# Seconds, but the factor.
BACKOFF_INITIAL_DELAY = 5.0
BACKOFF_MIN_DELAY = 3.1
BACKOFF_MAX_DELAY = 90.0
BACKOFF_FACTOR = 1.618


def process_exception(exc: Exception) -> Exception | None:
    """
    Tell whether to connect again after `exc`: the default of `connect(process_exception=...)`.

    Returns: None to connect again: after OSError, TimeoutError, a connection that ended within the
        response, and the statuses 500, 502, 503 and 504. Else the exception to raise.
    """
    # asyncio's is one of its own before Python 3.11.
    if isinstance(exc, (OSError, TimeoutError, asyncio.TimeoutError)):
        return None
    if isinstance(exc, InvalidMessage) and isinstance(exc.__cause__, EOFError):
        return None
    if isinstance(exc, InvalidStatus) and exc.response.status_code in RETRIED:
        return None
    return exc


def backoff(
    initial_delay: float = BACKOFF_INITIAL_DELAY,
    min_delay: float = BACKOFF_MIN_DELAY,
    max_delay: float = BACKOFF_MAX_DELAY,
    factor: float = BACKOFF_FACTOR,
) -> Generator[float, None, None]:
    """
    Yield the seconds to wait before each further attempt, without end.

    RFC 6455 7.2.3: "clients SHOULD use some form of backoff [...] The first reconnect attempt
    SHOULD be delayed by a random amount of time."

    Args:
        initial_delay: the first delay is random, and less than this; default 5.
        min_delay: the second; default 3.1.
        max_delay: no later one is longer; default 90.
        factor: from the second on each is so many times the one before; default 1.618.
    """
    yield random.random() * initial_delay
    delay = min_delay
    while delay < max_delay:
        yield delay
        delay *= factor
    while True:
        yield max_delay


class connect:
    """
    Connect to a WebSocket server: `async with connect(...) as ws`, or `ws = await connect(...)`.

    `async for ws in connect(...)` connects again whenever the loop's body is done with a
    connection, and after failures that may pass, with growing delays.

    Args:
        uri: of the server, "ws://host:port/path?query", or "wss://" for TLS; "user:password@" becomes
            Authorization.
        origin: the Origin field's value; None leaves it out.
        subprotocols: what to offer, best first.
        compression: "deflate", or a `Deflate` with settings, to offer permessage-deflate (RFC 7692).
            None, the default: never.
        additional_headers: further fields of the request. A redirect to another origin takes no
            Authorization, Cookie or Proxy-Authorization along.
        user_agent_header: the User-Agent field's value; None leaves it out.
        proxy: the address of an HTTP proxy; True takes the one that the environment names, if any;
            None uses none.
        process_exception: called with an exception that ended an attempt of `async for`; returns
            None to try again, or the exception to raise. Default: `process_exception`.
        open_timeout: seconds for all that opens the connection, default 10.
        ping_interval: seconds between keepalive Pings, default 20.
        ping_timeout: seconds without any byte from the server after a Ping until the connection is
            dropped, default 20.
        close_timeout: seconds for the closing handshake, default 10.
        reconnect_delays: called for an iterator over seconds to wait between attempts of
            `async for`. Default: `backoff`.
        max_size: bytes of payload of an incoming message, default 1 MiB.
        max_queue: messages waiting for `recv` at which nothing more is received, default 16; or a
            pair: that, and the number at which it goes on.
        write_limit: bytes waiting for the server over which `await ws.send()` waits, default 64 KiB.
        text_as: "str", or "bytes" to get text as validated UTF-8.
        logger: default `logging.getLogger("fastws.client")`.
        sock: use this socket, which is connected; it is closed in the end.
        host, port: connect there instead; the Host field stays that of `uri`.
        unix: connect to the Unix socket at this path instead.
        ssl: an `ssl.SSLContext` for wss. None, the default, and True: the system's certificates and
            the host's name have to vouch for the server.
        server_hostname: the name that the server's certificate must have, and that is asked for by
            SNI; None is the host of `uri`.
        local_addr: a pair of host and port to connect from.
        transport: "reactor" or "streams", see `serve`.
        family: `socket.AF_INET` or `AF_INET6` to use only addresses of that family.

    None switches a limit or timeout off. With `sock`, `unix`, `host` or `port` the environment's
    proxy is not used.

    Raises: InvalidURI and InvalidProxy for what is none; OSError when there is no connection, and
        of that ssl.SSLError when the TLS handshake fails, ssl.SSLCertVerificationError for the
        server's certificate; InvalidHandshake when the server or the proxy does not accept it;
        TimeoutError; ValueError and TypeError for bad arguments.
    """

    def __init__(
        self,
        uri: str,
        *,
        origin: str | None = None,
        subprotocols: Sequence[str] | None = None,
        compression: str | Deflate | None = None,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        proxy: str | Literal[True] | None = True,
        process_exception: Callable[[Exception], Exception | None] = process_exception,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        reconnect_delays: Callable[[], Generator[float, None, None]] = backoff,
        max_size: int | None = 2**20,
        max_queue: int | tuple[int, int] | None = 16,
        write_limit: int | None = 64 * 1024,
        text_as: str = "str",
        logger: Logger | None = None,
        sock: socket.socket | None = None,
        host: str | None = None,
        port: int | None = None,
        unix: str | os.PathLike[str] | None = None,
        ssl: tls.SSLContext | Literal[True] | None = None,
        server_hostname: str | None = None,
        local_addr: LocalAddress | None = None,
        family: int = 0,
        transport: str | None = None,
    ) -> None:
        check_transport(transport)
        text_type(text_as)
        numbers(
            open_timeout=open_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_size=max_size,
            write_limit=write_limit,
        )
        queue_limits(max_queue)
        elsewhere = host is not None or port is not None
        if sum((unix is not None, sock is not None, elsewhere)) > 1:
            raise ValueError("give one of host and port, unix, and sock")
        if proxy is not None and proxy is not True and not isinstance(proxy, str):
            raise TypeError(f"proxy is {proxy!r}, expected an address, True or None")
        if isinstance(proxy, str):
            if unix is not None or sock is not None or elsewhere:
                raise ValueError("a proxy is given with one of host and port, unix, and sock")
            parse_proxy(proxy)
        self.uri = uri
        self.ws_uri = parse_uri(uri)
        if ssl is not None and ssl is not True and not isinstance(ssl, tls.SSLContext):
            raise TypeError(f"ssl is {ssl!r}, expected an ssl.SSLContext, True or None")
        if not self.ws_uri.secure and (ssl is not None or server_hostname is not None):
            raise ValueError(f"{uri} is without TLS: ssl and server_hostname are for wss")
        # Copied, so that every attempt finds them, also those of an iterator.
        self.additional_headers = None if additional_headers is None else Headers(additional_headers)
        self.user_agent_header = user_agent_header
        self.proxy = proxy
        self.process_exception = process_exception
        self.open_timeout = open_timeout
        self.reconnect_delays = reconnect_delays
        self.logger = logger or logging.getLogger("fastws.client")
        self._origin = origin
        self._subprotocols = subprotocols
        self._compression = compression_of(compression)
        self._host = host
        self._port = port
        self._unix = unix
        self._sock = sock
        self._sock_used = False
        self._ssl = None if ssl is True else ssl
        self._server_hostname = server_hostname
        self._local_addr = local_addr
        self._family = family
        self._transport = transport
        self._options: dict[str, Any] = {
            "server": None,
            "policy": None,
            "make_handler": None,
            "negotiate": None,
            "logger": self.logger,
            "max_size": max_size,
            "max_queue": max_queue,
            "text_as": text_as,
            "write_limit": write_limit,
            "write_cap": None,
            "open_timeout": None,  # ours covers more than the handshake
            "ping_interval": ping_interval,
            "ping_timeout": ping_timeout,
            "close_timeout": close_timeout,
            "max_connections": 1,
            "max_opening": 1,
            "on_idle": no_operation,
        }
        self._connection: Connection | None = None
        self._handshake()  # what cannot be sent is said now

    def _handshake(self) -> ClientHandshake:
        return ClientHandshake(
            self.ws_uri,
            origin=self._origin,
            subprotocols=self._subprotocols,
            compression=self._compression,
            additional_headers=self.additional_headers,
            user_agent_header=self.user_agent_header,
        )

    # ---------------------------------------------------------------- sockets

    async def _open_socket(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        """Return a connected, non-blocking socket; what is behind it speaks WebSocket."""
        if self._sock is not None:
            if self._sock_used:
                raise ValueError("the socket that was given is used already, it connects once")
            self._sock_used = True
            sock = self._sock
            sock.setblocking(False)
            disable_nagle(sock)
            return sock
        if self._unix is not None:
            return await connect_path(loop, os.fspath(self._unix))
        if self._host is not None or self._port is not None:
            return await self._dial(
                loop, self._host or self.ws_uri.host, self.ws_uri.port if self._port is None else self._port
            )
        proxy = get_proxy(self.ws_uri) if self.proxy is True else self.proxy
        if proxy is None:
            return await self._dial(loop, self.ws_uri.host, self.ws_uri.port)
        parsed = parse_proxy(proxy)
        sock = await self._dial(loop, parsed.host, parsed.port)
        try:
            await tunnel(loop, sock, parsed, self.ws_uri, self.user_agent_header)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _dial(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
        return await connect_host(loop, host, port, self._family, self._local_addr)

    # ---------------------------------------------------------------- opening

    def _follow(self, error: InvalidStatus) -> bool:
        """
        Make the target of a redirect the server to connect to, RFC 9110 15.4.

        Returns: False when the response is no redirect.
        Raises: InvalidURI, ValueError and SecurityError for one that is not followed.
        """
        response = error.response
        locations = response.headers.get_all("Location")
        if response.status_code not in REDIRECTS or len(locations) != 1:
            return False
        old = self.ws_uri
        uri = urllib.parse.urljoin(self.uri, locations[0])
        new = parse_uri(uri)
        if self._sock is not None:
            raise ValueError(f"cannot follow a redirect to {uri}: the socket that was given is used")
        if old.secure and not new.secure:
            raise SecurityError(f"a redirect leads from TLS to {uri}, which is without")
        if (old.secure, old.host, old.port) != (new.secure, new.host, new.port):
            if self._unix is not None:
                raise ValueError(f"cannot follow a redirect to another origin, {uri}, from a Unix socket")
            if self._host is not None or self._port is not None:
                raise ValueError(f"cannot follow a redirect to another origin, {uri}: host or port is given")
            if self.additional_headers is not None:
                self.additional_headers = Headers(
                    [
                        item
                        for item in self.additional_headers.raw_items()
                        if item[0].lower() not in CREDENTIALS
                    ]
                )
            self._server_hostname = None
        self.uri, self.ws_uri = uri, new
        return True

    _opened: asyncio.Future[Connection] | None = None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        for _ in range(MAX_REDIRECTS):
            handshake = self._handshake()
            context = None
            if self.ws_uri.secure:
                context = self._ssl or client_context()
            settings = Settings(ssl=context, **self._options)
            sock = await self._open_socket(loop)
            try:
                # Only now: a carrier ends with its last connection, not without one.
                self._opened = open_client(
                    carrier_of(loop, self._transport),
                    sock,
                    settings,
                    handshake,
                    self._server_hostname or self.ws_uri.host.partition("%")[0],
                )
                connection = await self._opened
            except InvalidStatus as error:
                try:
                    followed = self._follow(error)
                except Exception as refusal:
                    raise refusal from error
                if not followed:
                    raise
            else:
                return connection
            finally:
                sock.close()  # the carrier has its descriptor, or did not take it
        raise SecurityError(f"{MAX_REDIRECTS} answers in a row are redirects, allowed are fewer")

    async def _connect(self) -> Connection:
        try:
            try:
                connection = await asyncio.wait_for(self._open(), self.open_timeout)
            except asyncio.CancelledError:
                # It may be open already, and nobody would have it.
                opened = self._opened
                if opened is not None and opened.done() and not opened.cancelled() and not opened.exception():
                    opened.result().abort()
                raise
        except (TimeoutError, asyncio.TimeoutError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's, not ours
            # The builtin one, also before Python 3.11.
            raise TimeoutError(f"the connection is not open after {self.open_timeout} seconds") from error
        # Not before: a coroutine that waits for a message acts on it before what follows ends it all.
        connection.begin_receiving()
        return connection

    # ---------------------------------------------------------------- ws = await connect(...)

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._connect().__await__()

    # ---------------------------------------------------------------- async with connect(...) as ws

    async def __aenter__(self) -> Connection:
        if self._connection is not None:
            raise RuntimeError("this connect() is entered already, it has one connection at a time")
        self._connection = await self
        return self._connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        if exc_type is None:
            await connection.close()
        else:
            await connection.close(1011)

    # ---------------------------------------------------------------- async for ws in connect(...)

    async def __aiter__(self) -> AsyncIterator[Connection]:
        delays: Generator[float, None, None] | None = None
        while True:
            try:
                async with self as connection:
                    yield connection
            except Exception as exc:
                try:
                    fatal = self.process_exception(exc)
                except Exception as raised:
                    fatal = raised  # it should have returned it
                if fatal is exc:
                    raise
                if fatal is not None:
                    raise fatal from exc
                if delays is None:
                    delays = self.reconnect_delays()
                delay = next(delays)
                why = traceback.format_exception_only(exc)[0].strip()
                self.logger.info("cannot connect, trying again in %.1f s: %s", delay, why)
                await asyncio.sleep(delay)
            else:
                delays = None


def unix_connect(path: str | os.PathLike[str], uri: str | None = None, **options: Any) -> connect:
    """
    Connect to a server on the Unix socket at `path`; takes what `connect` takes but host and port.

    Args:
        uri: what the server is told; None is "ws://localhost/", or with `ssl` "wss://localhost/".
    """
    if uri is None:
        uri = "ws://localhost/" if options.get("ssl") is None else "wss://localhost/"
    return connect(uri, unix=path, **options)


def no_operation() -> None:
    pass
