"""
Where connections get their bytes: a reactor of our own, or the event loop's transports.

In: listening sockets, and connected ones. Out: connections. The reactor needs epoll and a loop that watches
descriptors; streams run on any event loop.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
from typing import TYPE_CHECKING, Any

from fastws._settings import Settings
from fastws._streams import Link, Streams, streams_of

if TYPE_CHECKING:
    from fastws._connection import Connection
    from fastws._reactor import Reactor

TRANSPORTS = ("reactor", "streams")
# What None stands for; None is the reactor where there can be one.
default: str | None = None


class StreamProtocol(Link, asyncio.BufferedProtocol):
    """A `Link` that transports take for what it is."""


def check(transport: str | None) -> None:
    """Judge an argument. Raises: ValueError."""
    if transport is not None and transport not in TRANSPORTS:
        raise ValueError(f"transport is {transport!r}, allowed are 'reactor', 'streams' and None")


def can_watch(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether a reactor can run on this system and loop."""
    if not sys.platform.startswith("linux"):
        return False
    # The proactor loop, and those of others that are not about descriptors, have only the base class's.
    return type(loop).add_reader is not asyncio.AbstractEventLoop.add_reader


def carrier_of(loop: asyncio.AbstractEventLoop, transport: str | None) -> Reactor | Streams:
    """
    Return what carries the connections of a loop.

    Args:
        transport: "reactor", "streams", or None for the better one that there can be.
    """
    transport = transport or default
    if transport == "reactor" or (transport is None and can_watch(loop)):
        from fastws._reactor import reactor_of

        return reactor_of(loop)
    return streams_of(loop)


class StreamListener:
    """
    A listening socket on an event loop's own server.

    Attributes:
        sock: the socket, which stays the caller's.
    """

    def __init__(self, carrier: Streams, sock: socket.socket, settings: Settings, backlog: int) -> None:
        self.sock = sock
        self._carrier = carrier
        self._settings = settings
        self._backlog = backlog
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Accept connections."""
        loop = self._carrier.loop
        factory = functools.partial(StreamProtocol, self._carrier, self._settings)
        # The event loop's server closes its socket.
        own = self.sock.dup()
        own.setblocking(False)
        more: dict[str, Any] = {"sock": own, "backlog": self._backlog}
        create: Any = loop.create_server
        if own.family == getattr(socket, "AF_UNIX", None):
            create = loop.create_unix_server
            if has_cleanup(loop):
                more["cleanup_socket"] = False  # the path is ours to remove
        try:
            self._server = await create(factory, **more)
        except BaseException:
            own.close()
            raise

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()


async def listen(
    carrier: Reactor | Streams, sock: socket.socket, settings: Settings, backlog: int
) -> Any:  # a Listener of either kind
    """Accept connections from `sock`, a listening socket. Returns: a listener, for `stop_listening`."""
    if not isinstance(carrier, Streams):
        return carrier.listen(sock, settings)
    listener = StreamListener(carrier, sock, settings, backlog)
    await listener.start()
    return listener


def has_cleanup(loop: asyncio.AbstractEventLoop) -> bool:
    return sys.version_info >= (3, 13) and isinstance(loop, asyncio.SelectorEventLoop)


def stop_listening(carrier: Reactor | Streams, listener: Any) -> None:
    """Accept no more from a listener's socket."""
    if isinstance(listener, StreamListener):
        listener.close()
    else:
        assert not isinstance(carrier, Streams)
        carrier.remove_listener(listener)


def open_client(
    carrier: Reactor | Streams,
    sock: socket.socket,
    settings: Settings,
    handshake: Any,
    server_hostname: str | None = None,
) -> asyncio.Future[Connection]:
    """
    Open a client's connection on a connected socket, which is ours from here on.

    Args:
        server_hostname: whom the server's certificate has to name, with TLS.

    Returns: a future for the Connection. When it is cancelled the socket is closed.
    """
    if not isinstance(carrier, Streams):
        return carrier.open_client(sock, settings, handshake, server_hostname)
    loop = carrier.loop
    opened: asyncio.Future[Connection] = loop.create_future()
    own = socket.socket(fileno=sock.detach())
    factory = functools.partial(StreamProtocol, carrier, settings, handshake, opened, server_hostname)
    unix = own.family == getattr(socket, "AF_UNIX", None)
    attach: Any = loop.create_unix_connection if unix else loop.create_connection
    task = loop.create_task(attach(factory, sock=own))

    def attached(task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            own.close()
            if not opened.done():
                error = None if task.cancelled() else task.exception()
                opened.set_exception(error or ConnectionAbortedError("the connection was given up"))

    task.add_done_callback(attached)
    opened.add_done_callback(lambda _: task.cancel())
    return opened
