"""
Servers: listening sockets, topics, connections and their end.

In: settings and sockets, as `serve` made them. Out: connections, on the reactor of the running loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import socket
import ssl as tls
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastws._connection import Connection
from fastws._results import PublishResult
from fastws._settings import Settings
from fastws._topics import POLICIES, Topic, Topics
from fastws.backplane import Presence, Relay
from fastws.checks import number
from fastws.draining import RATE, TIMEOUT, tell_all
from fastws.tls import check_server_context
from fastws.transports import carrier_of, stop_listening
from fastws.transports import listen as listen_on

if TYPE_CHECKING:
    # It has no parameter at run time before Python 3.11.
    Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


class Server:
    """
    A running server, as `serve` gives it. `async with` closes it at the end.

    Attributes:
        sockets: the listening sockets.
        epoch: 16 hexadecimal digits that tell this server from others, and from itself after a restart:
            sequence numbers of topics are its own.
        backplane: what joins it with others, a `fastws.backplane.Relay` with `stats`; None: nothing does.
        handlers: what `serve` was given is called for each connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        logger: Logger,
        close_timeout: float | None,
        transport: str | None = None,
    ) -> None:
        self._loop = loop
        self._logger = logger
        self._close_timeout = close_timeout
        self._settings: Settings
        self._carrier = carrier_of(loop, transport)
        self._listeners: list[Any] = []
        self._own_sockets: list[socket.socket] = []
        self._unix_path: str | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = loop.create_future()
        self.epoch = secrets.token_hex(8)
        self._topics = Topics(logger, self.epoch)
        self.backplane: Relay | None = None
        self._gap_listeners: list[Callable[[Server, frozenset[str] | None], object]] = []
        self._thread = threading.get_ident()
        self._idle: asyncio.Future[None] | None = None
        self._on_leaving: Callable[[], object] | None = None  # called once, when nothing more is accepted

    # ---------------------------------------------------------------- facts

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets that the server listens on; none once it is closed."""
        return tuple(listener.sock for listener in self._listeners)

    @property
    def connections(self) -> set[Connection]:
        """The connections that are open, also those in the closing handshake, as a new set."""
        return set(self._carrier.connections_of(self))

    @property
    def logger(self) -> Logger:
        """The logger of the server and its connections."""
        return self._logger

    def is_serving(self) -> bool:
        """Tell whether new connections are accepted."""
        return bool(self._listeners)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that the server belongs to."""
        return self._loop

    def reload_tls(self, context: tls.SSLContext) -> None:
        """
        Use another context, with another certificate say, for connections to come; open ones keep theirs.

        Raises: ValueError when the server was started without TLS; ssl.SSLError and TypeError for what is
            no context for a server. Then all stays as it is.
        """
        if self._settings.ssl is None:
            raise ValueError("the server was started without TLS")
        check_server_context(context)
        self._settings.ssl = context

    # ---------------------------------------------------------------- topics

    def topic(
        self,
        name: str,
        *,
        policy: str = "close",
        max_bytes: int = 1024 * 1024,
        max_frames: int = 1024,
        retain: int = 0,
        history: int | None = None,
        history_seconds: float | None = None,
        on_join: Callable[[Connection, str], object] | None = None,
        on_leave: Callable[[Connection, str], object] | None = None,
    ) -> Topic:
        """
        Declare a topic, or with a pattern all topics that match it, and return it.

        A topic needs no declaration; this gives it other than the default options, and keeps it, with its
        counters, while it has no subscribers. Of several declarations that match, the first counts.

        Args:
            name: of the topic; a pattern as for `Connection.subscribe`.
            policy: what a subscriber gets that does not read, once too much waits for it. "close": it
                is closed with 1013. "drop": it does not get the message. "drop-oldest": it does not
                get the oldest of the topic that waits. "latest": of messages with the same key it
                gets the newest, in the place of the older one, whenever one waits; without an older
                one, as "drop".
            max_bytes: waiting for a subscriber, default 1 MiB, over which the policy decides.
            max_frames: the same in messages, default 1024.
            retain: how many keys to keep the last message of, for those who subscribe; default 0. Messages
                without a key count as one key.
            history: how many messages to keep for `subscribe(since=...)`; None keeps none, or with
                history_seconds all of that time.
            history_seconds: how long to keep them, in seconds; None: no limit.
            on_join, on_leave: called soon with the connection and the name for which it has
                subscribed, or no longer has.

        Raises: ValueError for a policy or limit that there is not.
        """
        if policy not in POLICIES:
            raise ValueError(f"policy is {policy!r}, allowed are {', '.join(POLICIES)}")
        for what, value in (("max_bytes", max_bytes), ("max_frames", max_frames), ("retain", retain)):
            if value is None:
                raise ValueError(f"{what} is None, it has to be bounded")
            number(what, value)
        number("history", history, 1)
        number("history_seconds", history_seconds)
        options = {
            "policy": policy,
            "max_bytes": max_bytes,
            "max_frames": max_frames,
            "retain": retain,
            "history": history,
            "history_seconds": history_seconds,
            "on_join": on_join,
            "on_leave": on_leave,
        }
        return self._topics.declare(name, options)

    def publish(
        self,
        topic: str,
        message: Any,
        *,
        exclude: Connection | None = None,
        key: str | None = None,
        text: bool | None = None,
        compress: bool | None = None,
    ) -> PublishResult:
        """
        Send a message to all subscribers of a topic; it is encoded once, and compressed once.

        It leaves at the end of the event loop's turn, with whatever else was published until then.

        Args:
            topic: a name, no pattern.
            message, text, compress: as `Connection.send` takes them; no iterables.
            exclude: a connection that is to be left out.
            key: what the message is about, for topics that retain or conflate.

        Returns: counts, see `PublishResult`.
        Raises: ValueError for a pattern; TypeError and UnicodeError as `send` does; RuntimeError from
            another thread than the event loop's: see `publish_threadsafe`.
        """
        if "*" in topic:
            raise ValueError(f"topic is {topic!r}, a pattern: messages are published for a name")
        if threading.get_ident() != self._thread:
            raise RuntimeError("a server belongs to its event loop's thread: use publish_threadsafe")
        return self._topics.publish_message(topic, message, text, exclude, key, compress)

    def publish_many(
        self, messages: Iterable[tuple[str, Any]], *, exclude: Connection | None = None
    ) -> list[PublishResult]:
        """Publish several (topic, message); they leave together. Returns: a result for each."""
        return [self.publish(topic, message, exclude=exclude) for topic, message in messages]

    def publish_threadsafe(self, topic: str, message: Any, **options: Any) -> None:
        """
        Publish from any thread, at the event loop's next pass.

        Args: as for `publish`.
        Raises: RuntimeError when the event loop is closed; other errors go to its exception handler.
        """
        self._loop.call_soon_threadsafe(functools.partial(self.publish, topic, message, **options))

    def subscribers(self, topic: str) -> int:
        """Return how many connections have subscribed to a topic, or to that very pattern."""
        found = self._topics.find(topic)
        return 0 if found is None else len(found)

    def presence(self, topic: str) -> set[Connection]:
        """Return the connections that have subscribed to a topic, or to that very pattern, as a new set."""
        found = self._topics.find(topic)
        return set() if found is None else set(found.subscribers)

    async def presence_everywhere(self, topic: str, timeout: float = 1.0) -> Presence:
        """
        Ask all servers of the backplane who has subscribed to a topic, or to that very pattern.

        Args:
            timeout: seconds to wait for answers, default 1.

        Returns: counts and connection ids by server, and whether all servers answered.
        """
        if self.backplane is not None:
            return await self.backplane.roster.presence(topic, timeout)
        here = self.presence(topic)
        return Presence({self.epoch: len(here)}, {self.epoch: [str(ws.id) for ws in here]}, True)

    def _on_gap(self, topics: frozenset[str] | None) -> None:
        for listener in self._gap_listeners:
            try:
                listener(self, topics)
            except Exception:
                self._logger.exception("on_gap failed")

    # ---------------------------------------------------------------- life

    async def _start(
        self, settings: Settings, sockets: Sequence[socket.socket], own: bool, backlog: int
    ) -> None:
        self._settings = settings
        self._carrier.hold()
        self._own_sockets = list(sockets) if own else []
        try:
            for sock in sockets:
                self._listeners.append(await listen_on(self._carrier, sock, settings, backlog))
        except BaseException:
            for listener in self._listeners:
                stop_listening(self._carrier, listener)
            self._carrier.release()
            raise

    def _on_idle(self) -> None:
        # A connection or a task of ours has ended.
        if self._idle is not None and not self._idle.done() and self._is_idle():
            self._idle.set_result(None)

    def _is_idle(self) -> bool:
        settings = self._settings
        return not (settings.open_count or settings.opening_count or settings.tasks)

    def _stop_listening(self) -> None:
        if self._on_leaving is not None:
            self._on_leaving()
        for listener in self._listeners:
            stop_listening(self._carrier, listener)
        self._listeners.clear()
        for sock in self._own_sockets:
            sock.close()
        self._own_sockets.clear()
        if self._unix_path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._unix_path)
            self._unix_path = None

    def close(self, close_connections: bool = True, code: int = 1001, reason: str = "") -> None:
        """
        Stop accepting, and close every connection with `code`, RFC 6455 7.4.1.

        Connections that do not complete the closing handshake within `close_timeout` are dropped,
        and callbacks that still run are cancelled. `wait_closed` tells when all is over.

        Args:
            close_connections: False leaves the open ones to end by themselves, or with the next `close`.
        """
        if self._ending is None:
            self._stop_listening()
            self._ending = self._loop.create_task(self._end())
        if close_connections and self._closing is None:
            self._closing = self._loop.create_task(self._close(code, reason))

    def drain(
        self,
        *,
        rate: float | None = RATE,
        timeout: float | None = TIMEOUT,
        handover: bool = False,
        code: int = 1001,
        reason: str = "",
    ) -> None:
        """
        Stop accepting, and close connections with `code` one after another, at random moments.

        So they do not all come back at once. `wait_closed` tells when all is over; `abort` shortens it.

        Args:
            rate: connections a second, default 2000; more if there are too many for the time. None: all at
                once.
            timeout: seconds, default 10, after which connections that are left are dropped and callbacks that
                still run are cancelled; all are told in the first 0.7 of it. None: no limit, but for that of
                `close_timeout` for each.
            handover: another server has the socket, so that nobody is to notice. Opening handshakes that are
                under way are completed, and a connection closes behind the answer to its next message, or
                when none has come for 2 s, and handlers are done. Default: a connection closes when it has
                its turn, and those in the opening handshake get 503.
        """
        number("rate", rate)
        number("timeout", timeout)
        if self._ending is None:
            self._stop_listening()
            self._ending = self._loop.create_task(self._end())
        if self._closing is None:
            self._closing = self._loop.create_task(self._drain(rate or None, timeout, handover, code, reason))

    async def _end(self) -> None:
        try:
            await self._wait_idle(None)
            if self.backplane is not None:
                await self.backplane.close()
        finally:
            self._carrier.release()
            if not self._closed.done():
                self._closed.set_result(None)

    async def _drain(
        self, rate: float | None, timeout: float | None, handover: bool, code: int, reason: str
    ) -> None:
        end = None if timeout is None else self._loop.time() + timeout
        await tell_all(self, rate, timeout, handover, code, reason)
        await self._end_in(self._close_timeout if end is None else max(0.0, end - self._loop.time()))

    async def _close(self, code: int, reason: str) -> None:
        for count, connection in enumerate(self._carrier.descriptors_of(self)):
            connection.shut_down(code, reason)
            if count % 256 == 255:
                await asyncio.sleep(0)
        await self._end_in(self._close_timeout)

    async def _end_in(self, timeout: float | None) -> None:
        if not await self._wait_idle(timeout):
            self.abort()
            for task in list(self._settings.tasks):
                task.cancel()
            if not await self._wait_idle(1.0):
                self._logger.warning("%d callbacks ignore their cancellation", len(self._settings.tasks))
                if self._idle is not None and not self._idle.done():
                    self._idle.set_result(None)  # they are not waited for

    async def _wait_idle(self, timeout: float | None) -> bool:
        if self._is_idle():
            return True
        if self._idle is None or self._idle.done():
            self._idle = self._loop.create_future()
        try:
            await asyncio.wait_for(asyncio.shield(self._idle), timeout)
        except (TimeoutError, asyncio.TimeoutError):
            return False
        return True

    def abort(self) -> None:
        """Drop every connection now, without a closing handshake."""
        for connection in self._carrier.descriptors_of(self):
            connection.abort()

    async def wait_closed(self) -> None:
        """Wait until the server was closed, and every connection and callback has ended."""
        await asyncio.shield(self._closed)

    async def serve_forever(self) -> None:
        """Wait until the server is closed; when cancelled, close it."""
        try:
            await asyncio.shield(self._closed)
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()
