"""Handlers: what a user gives to `serve`, and how its functions are found.

In: a coroutine function, a class, an object, a factory, or plain functions. Out: for each new
connection a handler and its `Callbacks`, looked up once for each handler class.

One rule tells them apart, in this order. A class gets an instance per connection. An object with
at least one `on_...` method is shared by all connections. What can be called with no arguments,
and is no coroutine function, is a factory: it is called for each connection and returns a handler.
Anything else that can be called is called with the connection, and what it returns is awaited.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastws._settings import Callbacks

if TYPE_CHECKING:
    from fastws._connection import Connection

EVENTS = ("on_open", "on_message", "on_close", "on_ping", "on_pong", "on_drain", "on_error")

HandlerSource = Callable[[Any], tuple[object, Callbacks]]


class Handler:
    """
    Callbacks of a connection; override those that you need.

    Each is called in the connection's event loop, at once, with nothing in between; keep it
    short. Any may be `async def`: then what comes next for that connection waits until it is
    done, and nothing more is received for it. An exception costs the connection close code 1011
    and one log record, nothing else.
    """

    __slots__ = ()

    def on_open(self, ws: Connection) -> Any:
        """The opening handshake is complete."""

    def on_message(self, ws: Connection, message: Any) -> Any:
        """A message came: `str` for text, `bytes` for binary (and for text with `text_as="bytes"`)."""

    def on_close(self, ws: Connection, code: int, reason: str) -> Any:
        """
        The connection is over; called exactly once after `on_open`.

        Args:
            code: the peer's close code, 1005 if it gave none, 1006 if there was no closing handshake.
            reason: the peer's reason, or "".
        """

    def on_ping(self, ws: Connection, data: bytes) -> Any:
        """A Ping came; its Pong has been queued."""

    def on_pong(self, ws: Connection, data: bytes) -> Any:
        """A Pong came."""

    def on_drain(self, ws: Connection) -> Any:
        """More than `write_limit` bytes waited for the peer, and now no more do."""

    def on_error(self, ws: Connection, error: BaseException) -> Any:
        """A callback raised `error`; the connection is closed with 1011. Without this it is logged."""


def is_handler(thing: object) -> bool:
    return any(callable(getattr(thing, name, None)) for name in EVENTS)


def functions_of(cls: type) -> Callbacks:
    """Look up the functions of a class whose instances serve one connection each."""
    functions: dict[str, Callable[..., Any]] = {}
    for name in EVENTS:
        function = getattr(cls, name, None)
        if function is None or function is getattr(Handler, name):
            continue
        if isinstance(inspect.getattr_static(cls, name), (staticmethod, classmethod)):
            functions[name] = without_handler(function)
        else:
            functions[name] = function
    return Callbacks(functions, True)


def without_handler(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _handler, *args: function(*args)


def shared_functions(handler: object) -> Callbacks:
    """Look up the methods of an object that serves all connections."""
    functions = {}
    for name in EVENTS:
        function = getattr(handler, name, None)
        if function is not None and getattr(type(handler), name, None) is not getattr(Handler, name):
            functions[name] = function
    return Callbacks(functions, False)


def handler_source(
    handler: object, functions: dict[str, Callable[..., Any]], parameters: Sequence[str] = ()
) -> HandlerSource:
    """
    Return what makes the handler of each new connection.

    Args:
        handler: a class, an object or a factory, see above; None when `functions` are given.
        functions: plain functions by event name, called with the connection first.
        parameters: names that a coroutine handler is given by keyword, too.

    Raises: TypeError for both, for neither, and for what is no handler.
    """
    source = getattr(handler, "handler_source", None)
    if source is not None:
        return source  # type: ignore[no-any-return]
    if handler is None:
        if not functions:
            raise TypeError(f"no handler: give one, or at least one of {', '.join(EVENTS)}")
        callbacks = Callbacks(functions, False)
        return lambda _connection: (None, callbacks)
    if functions:
        raise TypeError(f"a handler and {', '.join(functions)}: give one or the other")
    if isinstance(handler, type):
        if not is_handler(handler):
            raise TypeError(f"{handler!r} has none of {', '.join(EVENTS)}")
        cls: Callable[[], object] = handler
        callbacks = functions_of(handler)
        if issubclass(handler, Handler) and not any(getattr(callbacks, name) for name in EVENTS):
            raise TypeError(f"{handler!r} overrides none of {', '.join(EVENTS)}")
        return lambda _connection: (cls(), callbacks)
    if is_handler(handler):
        callbacks = shared_functions(handler)
        return lambda _connection: (handler, callbacks)
    if callable(handler):
        if is_factory(handler):
            return from_factory(handler)
        try:
            inspect.signature(handler).bind(None, **dict.fromkeys(parameters))
        except TypeError as error:
            given = f"and {', '.join(parameters)}" if parameters else "alone"
            raise TypeError(f"{handler!r} cannot be called with a connection {given}: {error}") from None
        except ValueError:
            pass  # a function in C that does not tell
        main = Callbacks({"main": handler}, False)
        return lambda _connection: (None, main)
    raise TypeError(
        f"handler is {handler!r}, expected a coroutine function, a class or an object with on_message, "
        "or a factory"
    )


def is_factory(handler: Callable[..., Any]) -> bool:
    """Tell a factory of handlers from what is called with a connection."""
    function: Any = handler
    while isinstance(function, functools.partial):
        function = function.func
    # Of an object that can be called, what its class says counts.
    call = getattr(type(function), "__call__")  # noqa: B004, B009
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        return False
    try:
        inspect.signature(handler).bind()
    except TypeError:
        return False
    except ValueError:
        pass  # a function in C that does not tell
    return True


def from_factory(factory: Callable[[], object]) -> HandlerSource:
    known: dict[type, Callbacks] = {}

    def make(_connection: Connection) -> tuple[object, Callbacks]:
        handler = factory()
        callbacks = known.get(type(handler))
        if callbacks is None:
            if isinstance(handler, type) or not is_handler(handler):
                raise TypeError(f"the factory {factory!r} returned {handler!r}, which is no handler")
            callbacks = known[type(handler)] = functions_of(type(handler))
        return handler, callbacks

    return make
