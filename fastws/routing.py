"""Routes: a handler for each path of a server.

In: patterns of paths with their handlers. Out: the handler of a request's path, and 404 for a
request that has none.
"""

from __future__ import annotations

import functools
import inspect
import re
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastws._settings import Callbacks
from fastws.handler import HandlerSource, handler_source
from fastws.http11 import Request, Response, rejection
from fastws.serving import serve

if TYPE_CHECKING:
    from fastws._connection import Connection

PARAMETER = re.compile(r"\{([A-Za-z_]\w*)(:path)?\}")


class Router:
    """
    Handlers by path.

    Args:
        routes: see `route`.

    Raises: ValueError for a pattern that is none; TypeError for a handler that is none.
    """

    def __init__(self, routes: Mapping[str, object]) -> None:
        self._exact: dict[str, HandlerSource] = {}
        self._patterns: list[tuple[re.Pattern[str], HandlerSource]] = []
        if not isinstance(routes, Mapping):
            raise TypeError(f"routes are {routes!r:.100}, expected a mapping of paths to handlers")
        for pattern, handler in routes.items():
            if not pattern.startswith("/"):
                raise ValueError(f"route is {pattern!r}, expected a path that begins with /")
            expression = pattern_of(pattern)
            parameters = () if expression is None else tuple(expression.groupindex)
            source = handler_source(handler, {}, parameters)
            if expression is None:
                self._exact[pattern] = source
            else:
                self._patterns.append((expression, source))

    def find(self, path: str) -> tuple[HandlerSource, dict[str, str]] | None:
        """Return the route of `path`, a request target without its query, and the path's parameters."""
        source = self._exact.get(path)
        if source is not None:
            return source, {}
        for expression, source in self._patterns:
            match = expression.fullmatch(path)
            if match is not None:
                unquoted = {name: urllib.parse.unquote(value) for name, value in match.groupdict().items()}
                return source, unquoted
        return None

    def judge(self, connection: Connection, request: Request) -> Response | None:
        """Answer a path without a route; a `process_request`."""
        if self.find(request.path.partition("?")[0]) is None:
            return rejection(404, "There is nothing here.")
        return None

    def handler_source(self, connection: Connection) -> tuple[object, Callbacks]:
        """Return the handler of a connection, which `judge` let pass."""
        found = self.find(connection.request.path.partition("?")[0])
        assert found is not None
        source, parameters = found
        instance, callbacks = source(connection)
        if parameters:
            connection.path_parameters = parameters
            if callbacks.main is not None:
                main = functools.partial(callbacks.main, **parameters)
                return instance, type(callbacks)({"main": main}, False)
        return instance, callbacks


def pattern_of(pattern: str) -> re.Pattern[str] | None:
    """Return the expression for a path with parameters; None for one without."""
    parts = []
    end = 0
    for match in PARAMETER.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        parts.append(f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})")
        end = match.end()
    rest = pattern[end:]
    if "{" in "".join(PARAMETER.split(pattern)[::3]) or "}" in rest:
        raise ValueError(f"route is {pattern!r}: a parameter is {{name}} or {{name:path}}")
    if not parts:
        return None
    try:
        return re.compile("".join([*parts, re.escape(rest)]))
    except re.error as error:
        raise ValueError(f"route is {pattern!r}: {error.msg}") from None


def route(routes: Mapping[str, object], *args: Any, **options: Any) -> serve:
    """
    Serve with a handler for each path: `async with route({"/chat": chat, "/room/{name}": room}, host, port)`.

    The first route that fits is taken, those without parameters before those with any. A
    coroutine handler gets the parameters as keyword arguments, `async def room(ws, name)`; all
    handlers find them as `ws.path_parameters`. A request for another path gets 404, after
    `process_request` has seen it.

    Args:
        routes: handlers, as `serve` takes them, by path. `{name}` stands for anything up to the
            next slash, `{name:path}` for slashes, too.
        args, options: as for `serve`, behind the handler.

    Raises: ValueError for a path that is none, and what `serve` raises.
    """
    router = Router(routes)
    ask = options.pop("process_request", None)

    def process_request(connection: Connection, request: Request) -> Any:
        if ask is None:
            return router.judge(connection, request)
        result = ask(connection, request)
        if inspect.isawaitable(result):
            return later(connection, request, result)
        return router.judge(connection, request) if result is None else result

    async def later(connection: Connection, request: Request, pending: Any) -> Response | None:
        result: Response | None = await pending
        return router.judge(connection, request) if result is None else result

    return serve(router, *args, process_request=process_request, **options)
