"""The opening handshake with a server's hooks: `process_request` and `process_response`.

In: a complete request head. Out: the one `Response` to it, 101 or not, RFC 6455 4.2.2. Without
hooks none of this runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastws.handshake import Rejected
from fastws.http11 import Response

if TYPE_CHECKING:
    from fastws._connection import Connection
    from fastws.handshake import ServerHandshake

Hook = Callable[..., Any]
Negotiator = Callable[["Connection", "ServerHandshake"], "Response | Coroutine[Any, Any, Response]"]


def negotiator(process_request: Hook | None, process_response: Hook | None) -> Negotiator | None:
    """
    Return what answers a request with the hooks' help; None when there are none.

    What it returns gives the `Response`: at once, or a coroutine when a hook returned an awaitable.
    """
    if process_request is None and process_response is None:
        return None

    def negotiate(
        connection: Connection, handshake: ServerHandshake
    ) -> Response | Coroutine[Any, Any, Response]:
        if process_request is not None:
            result = process_request(connection, handshake.request)
            if inspect.isawaitable(result):
                return finish(connection, handshake, result)
        else:
            result = None
        response = answer(connection, handshake, result)
        if process_response is not None:
            changed = process_response(connection, handshake.request, response)
            if inspect.isawaitable(changed):
                return final(response, changed)
            if changed is not None:
                response = changed
        return response

    async def finish(connection: Connection, handshake: ServerHandshake, pending: Any) -> Response:
        response = answer(connection, handshake, await pending)
        if process_response is not None:
            changed = process_response(connection, handshake.request, response)
            if inspect.isawaitable(changed):
                changed = await changed
            if changed is not None:
                response = changed
        return response

    async def final(response: Response, pending: Any) -> Response:
        changed = await pending
        return response if changed is None else changed

    return negotiate


def answer(connection: Connection, handshake: ServerHandshake, result: Response | None) -> Response:
    """Return the hook's response, or our own judgement of the request."""
    if isinstance(result, Response):
        return result
    if result is not None:
        raise TypeError(f"process_request returned {result!r:.100}, expected a Response or None")
    try:
        return handshake.accept(connection)
    except Rejected as error:
        return error.response
