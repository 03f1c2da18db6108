"""
WebSockets for uvicorn: `uvicorn app:app --ws fastws.uvicorn:WebSocketProtocol`.

In: what uvicorn hands over: its settings, a transport, the head of a request. Out: the application's task,
its scope and its events, ASGI's websocket messages 2.4, and frames. RFC 6455 4.2.

uvicorn is not needed for the rest of the package.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)

from fastws._asgi import Exchange, link_of
from fastws._settings import Callbacks, Settings
from fastws._streams import streams_of
from fastws.codes import State
from fastws.extensions import Deflate
from fastws.handshake import Policy, Rejected, ServerHandshake
from fastws.headers import Headers, parse_list
from fastws.http11 import Response, reason_phrase, rejection, split_absolute

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from fastws._connection import Connection

__all__ = ["WebSocketProtocol"]

Event = MutableMapping[str, Any]
Pairs = Iterable[tuple[bytes, bytes]]

SPEC_VERSION = "2.4"
# Seconds for the closing handshake, and what is left of it when the server stops.
CLOSE_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 2.0
UNLIMITED = 2**31 - 1  # uvicorn counts connections itself

NORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1011, 1012


class DefaultHeaders(Policy):
    """
    What is asked of requests, with the fields that uvicorn adds to every response.

    Args:
        state: uvicorn's, which replaces them every second; not kept alive.
        options: as for Policy.
    """

    __slots__ = ("_state",)

    def __init__(self, state: ServerState, **options: Any) -> None:
        self._state = weakref.ref(state)
        super().__init__(**options)

    def server_fields(self) -> list[tuple[str, str]]:
        """Return uvicorn's default fields but the Date, which has an option of its own."""
        state = self._state()
        return [] if state is None else decoded(item for item in state.default_headers if item[0] != b"date")


class Shared:
    """What all connections of one uvicorn server on one event loop have in common."""

    def __init__(self, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.streams = streams_of(loop)
        # With no connection they stay, for the next one.
        self.streams.hold()
        self.settings = Settings(
            server=None,
            policy=DefaultHeaders(
                state,
                compression=Deflate() if config.ws_per_message_deflate else None,
                date_header=config.date_header,
            ),
            make_handler=make_handler,
            negotiate=negotiate,
            logger=logging.getLogger("uvicorn.error"),
            max_size=config.ws_max_size,
            max_queue=max(config.ws_max_queue, 1),
            text_as="str",
            # An application waits, however fast it sends, and so nobody is dropped for what waits.
            write_limit=64 * 1024,
            write_cap=None,
            # It may take its time to accept.
            open_timeout=None,
            ping_interval=config.ws_ping_interval or None,
            ping_timeout=config.ws_ping_timeout,
            close_timeout=CLOSE_TIMEOUT,
            max_connections=UNLIMITED,
            max_opening=UNLIMITED,
            on_idle=nothing,
        )


def nothing() -> None:
    """Do nothing."""


known: weakref.WeakKeyDictionary[ServerState, Shared] = weakref.WeakKeyDictionary()


def shared_by(config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> Shared:
    shared = known.get(state)
    if shared is None or shared.loop is not loop or shared.streams.closed:
        shared = known[state] = Shared(config, state, loop)
    return shared


def decoded(headers: Pairs) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def negotiate(connection: Connection, handshake: ServerHandshake) -> Response | None:
    """Start the application for a valid opening handshake; it answers later."""
    try:
        response = handshake.accept(connection)
    except Rejected as error:
        return error.response
    link: WebSocketProtocol = link_of(connection)
    link.start(handshake, response)
    return None


def on_close(link: WebSocketProtocol, _connection: Connection, _code: int, _reason: str) -> None:
    link.wake()


# Messages go to `receive`, whoever awaits it.
functions: dict[str, Any] = {"main": True, "on_close": on_close}
CALLBACKS = Callbacks(functions, True)


def make_handler(connection: Connection) -> tuple[object, Callbacks]:
    return link_of(connection), CALLBACKS


class WebSocketProtocol(Exchange, asyncio.BufferedProtocol):
    """
    One connection, as uvicorn makes it: a protocol of asyncio's, and its ASGI application.

    Args:
        config, server_state, app_state: uvicorn's.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.loop = _loop or asyncio.get_running_loop()
        self.app_state = app_state
        self.server_state = server_state
        self.scope: dict[str, Any] = {}
        # Until the application has decided: the request, and the 101 without what it adds.
        self._handshake: ServerHandshake | None = None
        self._accepting: Response | None = None
        # Of a denial: its start, and the body so far; the application has said its last word.
        self._denial: tuple[int, list[tuple[str, str]]] | None = None
        self._body = bytearray()
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        shared = shared_by(config, server_state, self.loop)
        self.logger = shared.settings.logger
        super().__init__(shared.streams, shared.settings, ClientDisconnected)

    # ---------------------------------------------------------------- what uvicorn calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Internal: asyncio's."""
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        super().connection_made(transport)
        self._trace("%sWebSocket connection made")

    def connection_lost(self, exc: Exception | None) -> None:
        """Internal: asyncio's."""
        self.server_state.connections.discard(self)  # type: ignore[arg-type]
        self._trace("%sWebSocket connection lost")
        super().connection_lost(exc)
        if self._task is None:
            self.forget()

    def shutdown(self) -> None:
        """End the connection, for the server stops: with 1012, or status 500 before it is accepted."""
        if self._state is State.CONNECTING:
            self._reject_internally()
        elif self._state is State.OPEN:
            self.end(SERVICE_RESTART, "")
        self.hurry(SHUTDOWN_TIMEOUT)

    def _trace(self, text: str) -> None:
        if self.logger.isEnabledFor(TRACE_LOG_LEVEL):
            address = get_remote_addr(self.transport)
            self.logger.log(TRACE_LOG_LEVEL, text, f"{address[0]}:{address[1]} - " if address else "")

    # ---------------------------------------------------------------- the application

    def start(self, handshake: ServerHandshake, accepting: Response) -> None:
        """Internal: run the application. `accepting` is the 101 without what it adds."""
        self._handshake = handshake
        self._accepting = accepting
        self.scope = self._scope_of(handshake.head)
        self.put({"type": "websocket.connect"})
        self._task = self.loop.create_task(self._run())
        self.server_state.tasks.add(self._task)
        self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self.server_state.tasks.discard(task)
        self._task = None
        if self._state is State.CLOSED:
            self.forget()

    @property
    def _state(self) -> State:
        return State.CLOSED if self.ws is None else self.ws.state

    def _scope_of(self, head: bytes) -> dict[str, Any]:
        first, *lines = head[:-4].split(b"\r\n")
        headers = []
        offered = []
        for line in lines:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip(b" \t")
            headers.append((name, value))
            if name == b"sec-websocket-protocol":
                offered += parse_list(value.decode("latin-1"))
        target = first.split(b" ")[1].decode("latin-1")
        absolute = split_absolute(target)
        raw_path, _, query = (target if absolute is None else absolute[1]).partition("?")
        root = self.config.root_path
        return {
            "type": "websocket",
            "asgi": {"version": self.config.asgi_version, "spec_version": SPEC_VERSION},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self.transport) else "ws",
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
            "root_path": root,
            "path": root + unquote(raw_path),
            "raw_path": (root + raw_path).encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": headers,
            "subprotocols": offered,
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }

    async def _run(self) -> None:
        app: Any = self.config.loaded_app
        code = NORMAL
        try:
            result = await app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            # As uvicorn does, whatever it is: a connection's task takes no other with it.
            self.logger.exception("Exception in ASGI application\n")
            code = INTERNAL_ERROR
        else:
            if self._state is State.CONNECTING:
                self.logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                self.logger.error("ASGI callable should return None, but returned '%s'.", result)
        if self._state is State.CONNECTING:
            self._reject_internally()
        elif self._state is State.OPEN:
            self.end(code, "")

    def _reject_internally(self) -> None:
        self._decide(rejection(500, "Internal Server Error"))

    def _decide(self, response: Response) -> None:
        self.decide(response)
        self._handshake = self._accepting = None

    # ---------------------------------------------------------------- events of the application

    def other_event(self, event: Event) -> Awaitable[None]:
        """Internal: what `send` does with everything but a message on an open connection."""
        if self.accepted:
            return self._close(event)
        if self._ended:
            return self._after_end(event)
        if self._denial is not None:
            return self._continue_denial(event)
        return self._answer(event)

    def _check_connected(self) -> None:
        if self._state is State.CLOSED:
            raise ClientDisconnected

    async def _after_end(self, event: Event) -> None:
        self._check_connected()
        raise RuntimeError(f"Unexpected ASGI message '{event['type']}', after sending 'websocket.close'.")

    async def _answer(self, event: Event) -> None:
        self._check_connected()
        kind = event["type"]
        if kind == "websocket.accept":
            if self._state is not State.CONNECTING:
                raise ClientDisconnected  # the server stops
            self._accept(event)
        elif kind == "websocket.close":
            self._log(403)
            self._ended = True
            self._decide(Response(403, "Forbidden"))
        elif kind == "websocket.http.response.start":
            status = event["status"]
            # 1xx are no final responses.
            if not 200 <= status < 600:
                raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
            self._denial = (status, decoded(event.get("headers") or ()))
            self._log(status)
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' "
                f"or 'websocket.http.response.start' but got '{kind}'."
            )

    def _accept(self, event: Event) -> None:
        assert self._handshake is not None and self._accepting is not None
        headers = self._accepting.headers.copy()
        date = [item for item in self.server_state.default_headers if item[0] == b"date"]
        if date:
            del headers["Date"]
        headers.update(
            decoded((name.lower(), value) for name, value in (*date, *(event.get("headers") or ())))
        )
        subprotocol = event.get("subprotocol")
        if subprotocol:
            headers["Sec-WebSocket-Protocol"] = self._handshake.subprotocol = subprotocol
        self._decide(Response(101, "Switching Protocols", headers))
        self.accepted = True
        self._log("[accepted]")

    async def _continue_denial(self, event: Event) -> None:
        self._check_connected()
        if event["type"] != "websocket.http.response.body":
            raise RuntimeError(
                f"Expected ASGI message 'websocket.http.response.body' but got '{event['type']}'."
            )
        self._body += event.get("body", b"")
        if not event.get("more_body", False):
            assert self._denial is not None
            status, fields = self._denial
            headers = Headers(fields)
            if "Content-Type" not in headers:
                headers["Content-Type"] = "text/plain; charset=utf-8"
            self._ended = True
            self._decide(Response(status, reason_phrase(status), headers, self._body))

    async def _close(self, event: Event) -> None:
        self._check_connected()
        if event["type"] != "websocket.close":
            raise RuntimeError(
                f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{event['type']}'."
            )
        self.end(event.get("code", NORMAL), event.get("reason") or "")
        self.accepted = False
        self._ended = True

    def _log(self, outcome: int | str) -> None:
        self.logger.info(
            f'%s - "WebSocket %s" {outcome}',
            get_client_addr(self.scope),  # type: ignore[arg-type]
            get_path_with_query_string(self.scope),  # type: ignore[arg-type]
        )
