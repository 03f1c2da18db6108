"""
The client's side of the opening handshake, without I/O: RFC 6455 4.1, RFC 9110, RFC 9112.

In: a URI and what the user wants to say to its server; the bytes of the response, in any pieces.
Out: the request; the response, found to accept the connection or not, and the bytes behind it,
which are frames.
"""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Sequence

from fastws.exceptions import (
    InvalidHeader,
    InvalidHeaderValue,
    InvalidStatus,
    InvalidUpgrade,
    NegotiationError,
)
from fastws.extensions import Agreed, Deflate, parse_extensions
from fastws.headers import TOKEN, Headers, HeadersLike, accept_key, parse_list
from fastws.http11 import REQUEST_LINE, Request, Response, is_host
from fastws.http11_responses import ResponseReader
from fastws.uri import WebSocketURI, basic_credentials
from fastws.version import __version__

__all__ = ["USER_AGENT", "ClientHandshake"]

USER_AGENT = f"Python/{sys.version_info.major}.{sys.version_info.minor} fastws/{__version__}"

# Fields that would begin a body, or promise what this side of the connection does not do.
REFUSED = ("Content-Length", "Transfer-Encoding", "Sec-WebSocket-Extensions")


class ClientHandshake:
    """
    One connection's opening handshake, from the client.

    Send `request_bytes`; `receive_data` until it is True, or `receive_eof`; then `check`.

    Args:
        uri: of the server.
        origin: the Origin field's value; None leaves it out.
        subprotocols: what to offer, best first; None offers none.
        compression: what to offer; None offers none.
        additional_headers: fields to send besides those of the handshake.
        user_agent_header: the User-Agent field's value; None leaves it out.

    Attributes:
        request: what is sent.
        request_bytes, head: its bytes.
        response: what came, once it is complete.
        subprotocol: the one agreed on, once `check` has passed; None: none.
        deflate: the compression agreed on, likewise.

    Raises: ValueError for what cannot stand in a request, and for a field that is set already.
    """

    __slots__ = (
        "_compression",
        "_key",
        "_reader",
        "_subprotocols",
        "deflate",
        "head",
        "request",
        "subprotocol",
    )

    def __init__(
        self,
        uri: WebSocketURI,
        *,
        origin: str | None = None,
        subprotocols: Sequence[str] | None = None,
        compression: Deflate | None = None,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
    ) -> None:
        self._subprotocols = checked_subprotocols(subprotocols)
        # RFC 6455 4.1: "a nonce consisting of a randomly selected 16-byte value that has been
        # base64-encoded [...] The nonce MUST be selected randomly for each connection."
        self._key = base64.b64encode(secrets.token_bytes(16))
        host = uri.host_field
        if not is_host(host.encode("latin-1", "replace")):
            raise ValueError(f"host is {uri.host!r}, which is neither a name nor an address")
        headers = Headers(Host=host)
        if uri.user_info is not None:
            headers["Authorization"] = basic_credentials(*uri.user_info)
        if origin is not None:
            headers["Origin"] = origin
        headers["Upgrade"] = "websocket"
        headers["Connection"] = "Upgrade"
        headers["Sec-WebSocket-Key"] = self._key.decode()
        headers["Sec-WebSocket-Version"] = "13"
        if self._subprotocols:
            headers["Sec-WebSocket-Protocol"] = ", ".join(self._subprotocols)
        if compression is not None:
            headers["Sec-WebSocket-Extensions"] = compression.offer()
        add_fields(headers, additional_headers)
        if user_agent_header is not None and "User-Agent" not in headers:
            headers["User-Agent"] = user_agent_header
        line = f"GET {uri.resource_name} HTTP/1.1".encode()
        if not REQUEST_LINE.fullmatch(line) or uri.resource_name[0] != "/" or "#" in uri.resource_name:
            raise ValueError(f"path and query are {uri.resource_name!r}, which is no request target")
        self.request = Request(uri.resource_name, headers)
        self.head = line + b"\r\n" + headers.serialize()
        self.subprotocol: str | None = None
        self.deflate: Agreed | None = None
        self._compression = compression
        self._reader = ResponseReader()

    @property
    def request_bytes(self) -> bytes:
        """The bytes to send."""
        return self.head

    # ---------------------------------------------------------------- the response

    def receive_data(self, data: bytes) -> bool:
        """
        Take more bytes from the server; none once the response is complete.

        Any split of a response gives the same result. A response that is not 101 is complete with
        its body.

        Returns: whether the response is complete; then call `check`.
        Raises: InvalidMessage, as soon as it is certain; a SecurityError is its cause where a line
            exceeds 8 KiB, the head 32 KiB or 128 fields, or the body 1 MiB.
        """
        return self._reader.receive_data(data)

    def receive_eof(self) -> bool:
        """
        Take the end of the stream, which completes a body of unknown length; then call `check`.

        Returns: True, the response is complete.
        Raises: InvalidMessage, with an EOFError as its cause, when the response is not complete.
        """
        return self._reader.receive_eof()

    @property
    def response(self) -> Response | None:
        """The response, once it is complete."""
        return self._reader.response

    @property
    def rest(self) -> bytes:
        """The bytes that came behind the head of a 101: the first frames."""
        return self._reader.rest

    # ---------------------------------------------------------------- the verdict

    def check(self) -> None:
        """
        Judge the response, RFC 6455 4.1; `subprotocol` is set when it is good.

        Raises:
            InvalidStatus: it is not 101.
            InvalidUpgrade: Upgrade or Connection do not say that it is a WebSocket.
            InvalidHeader: Sec-WebSocket-Accept is missing, given twice, or not made of our key.
            NegotiationError: it has an extension or subprotocol that was not offered, or several
                subprotocols.
        """
        response = self._reader.response
        assert response is not None, "the response is not complete"
        if response.status_code != 101:
            raise InvalidStatus(response)
        headers = response.headers
        connection = joined(headers, "Connection")
        if connection is None or "upgrade" not in parse_list(connection.lower()):
            raise InvalidUpgrade("Connection", connection)
        upgrade = joined(headers, "Upgrade")
        if upgrade is None or parse_list(upgrade.lower()) != ["websocket"]:
            raise InvalidUpgrade("Upgrade", upgrade)
        accepts = headers.get_all("Sec-WebSocket-Accept")
        if not accepts:
            raise InvalidHeader("Sec-WebSocket-Accept")
        if accepts != [accept_key(self._key).decode()]:
            raise InvalidHeaderValue("Sec-WebSocket-Accept", ", ".join(accepts))
        extensions = joined(headers, "Sec-WebSocket-Extensions")
        if extensions is not None:
            self.deflate = self._chosen_extension(extensions)
        self.subprotocol = self._chosen(joined(headers, "Sec-WebSocket-Protocol"))

    def _chosen_extension(self, value: str) -> Agreed:
        if self._compression is None:
            raise NegotiationError(f"the server chose the extensions {value!r}, none is offered")
        try:
            chosen = parse_extensions(value)
        except ValueError as error:
            raise InvalidHeaderValue("Sec-WebSocket-Extensions", value) from error
        return self._compression.check(chosen, value)

    def _chosen(self, value: str | None) -> str | None:
        if value is None:
            return None
        chosen = parse_list(value)
        if len(chosen) != 1:
            raise NegotiationError(f"the server chose the subprotocols {value!r}, allowed is one")
        if chosen[0] not in self._subprotocols:
            offered = ", ".join(self._subprotocols) or "none"
            raise NegotiationError(f"the server chose the subprotocol {value!r}, offered is {offered}")
        return chosen[0]


def checked_subprotocols(subprotocols: Sequence[str] | None) -> tuple[str, ...]:
    """
    Return the subprotocols to offer.

    Raises: TypeError for a string; ValueError for one that is no token, or given twice. RFC 6455
        4.1: "The elements that comprise this value MUST be non-empty strings with characters in
        the range U+0021 to U+007E not including separator characters [...] and MUST all be unique
        strings."
    """
    if isinstance(subprotocols, str):
        raise TypeError(f"subprotocols is the string {subprotocols!r}, expected a sequence of them")
    offered = tuple(subprotocols or ())
    for subprotocol in offered:
        if not TOKEN.fullmatch(subprotocol):
            raise ValueError(f"subprotocol is {subprotocol!r}, which is no token")
    if len(set(offered)) < len(offered):
        raise ValueError(f"subprotocols are {', '.join(offered)}, each may be there once")
    return offered


def add_fields(headers: Headers, more: HeadersLike | None) -> None:
    """
    Add the user's fields to those of the handshake.

    Raises: ValueError for one that the handshake sets, or that it must not have.
    """
    if more is None:
        return
    fields = Headers(more)
    for name in fields:
        # Twice the same of these is an invalid request, which the server would have to tell.
        if name in headers:
            raise ValueError(f"field {name} is in additional_headers, the handshake sets it itself")
    for name in REFUSED:
        if name in fields:
            raise ValueError(f"field {name} is in additional_headers, an opening handshake cannot have it")
    headers.update(fields)


def joined(headers: Headers, name: str) -> str | None:
    """Return all values of a list field as one, RFC 9110 5.3; None without the field."""
    values = headers.get_all(name)
    return ", ".join(values) if values else None
