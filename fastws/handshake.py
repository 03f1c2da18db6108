"""
The server's side of the opening handshake, without I/O: RFC 6455 4.2, RFC 9110, RFC 9112.

In: the bytes of a new connection, in any pieces. Out: a response, 101 or not, and the bytes
behind the request, which are frames.

Theory of operation. httptools knows the grammar of HTTP and little else: it takes requests
without a Host, with a body, of any size, in any version. All those rules are here.

A head is judged in one of two ways. `HeadReader` takes it line by line and every byte once: a
byte that may not be where it is, a size, a finished line, whichever comes first in the stream.
So the verdict comes early and does not depend on how the bytes were split. The ordinary head,
which comes whole and has nothing wrong with it, is given to httptools at once; if anything about
it is unusual, `HeadReader` judges it from its first byte. What the short way takes, the long way
takes too, with the same result: that is its invariant.

The order of judgement: grammar and size; Host; body; then the server's hooks, which may answer
any valid request; then method, version, Upgrade, Connection, Sec-WebSocket-*, Origin and the
choice of a subprotocol.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import httptools

from fastws.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidProtocol,
    InvalidUpgrade,
    NegotiationError,
)
from fastws.extensions import Agreed, Deflate, parse_extensions
from fastws.headers import TOKEN, Headers, accept_key, parse_list
from fastws.http11 import (
    FieldList,
    HeadReader,
    Rejected,
    Request,
    Response,
    http_date,
    is_host,
    reason_phrase,
    reject,
    rejection,
)
from fastws.version import __version__

__all__ = ["SERVER_HEADER", "Policy", "Rejected", "ServerHandshake", "rejection"]

SERVER_HEADER = f"Python/{sys.version_info.major}.{sys.version_info.minor} fastws/{__version__}"

ORDINARY_REQUEST_LINE = re.compile(rb"GET /[!\"$-~]* HTTP/1\.1\r\n")
CRLF = b"\r\n"
# What may stand between a CRLF and the next.
TEXT = bytes([9, *range(32, 127), *range(128, 256)])
NONE: frozenset[bytes] = frozenset()

KEY = re.compile(rb"[+/0-9A-Za-z]{22}==")
ZERO = re.compile(rb"0+")
# The methods of RFC 9110 and RFC 5789: these we know and do not allow, others we do not know.
KNOWN_METHODS = frozenset(b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH".split())


def upgrade_required(error: InvalidHandshake, *headers: tuple[str, str]) -> Rejected:
    # RFC 9110 15.5.22: "The server MUST send an Upgrade header field in a 426 response"; 7.8: "A
    # sender of Upgrade MUST also send an "Upgrade" connection option".
    return reject(426, error, ("Upgrade", "websocket"), ("Connection", "Upgrade, close"), *headers)


ACCEPT_PREFIX = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)


class Policy:
    """
    What a server asks of requests; shared by all of its connections, and never changed.

    Args:
        origins: allowed Origin values: strings, compiled patterns for the whole value, None for a
            request without one. None, the default, allows all.
        subprotocols: what the server speaks, best first. A client that offers none of them gets
            400. None, the default: no subprotocol is chosen.
        select_subprotocol: called with the connection and the list of what the client offers;
            returns one of it or None, or raises NegotiationError for a 400.
        compression: how to compress; None, the default: not at all, and offers are not looked at.
        server_header: the Server field; None leaves it out.
        date_header: whether responses get a Date field, which RFC 9110 6.6.1 asks of a server with a clock.
        max_line: bytes of the request line, and of one field, default 8 KiB.
        max_head: bytes of the request head, default 32 KiB.
        max_fields: header fields, default 128.

    Raises: ValueError and TypeError for values that cannot be sent or compared.
    """

    __slots__ = (
        "_behind_accept",
        "_longest_ordinary",
        "compression",
        "date_header",
        "max_fields",
        "max_head",
        "max_line",
        "origins",
        "select_subprotocol",
        "server_header",
        "subprotocols",
    )

    def __init__(
        self,
        *,
        origins: Sequence[str | re.Pattern[str] | None] | None = None,
        subprotocols: Sequence[str] | None = None,
        select_subprotocol: Callable[[Any, Sequence[str]], str | None] | None = None,
        compression: Deflate | None = None,
        server_header: str | None = SERVER_HEADER,
        date_header: bool = True,
        max_line: int = 8 * 1024,
        max_head: int = 32 * 1024,
        max_fields: int = 128,
    ) -> None:
        for name, value in (("origins", origins), ("subprotocols", subprotocols)):
            if isinstance(value, str):
                raise TypeError(f"{name} is the string {value!r}, expected a sequence of them")
        for origin in origins or ():
            if origin is not None and not isinstance(origin, (str, re.Pattern)):
                raise TypeError(f"an origin is {origin!r}, expected str, a compiled pattern or None")
            if isinstance(origin, re.Pattern) and not isinstance(origin.pattern, str):
                raise TypeError(f"an origin is {origin!r}, expected a pattern for str")
        for subprotocol in subprotocols or ():
            if not TOKEN.fullmatch(subprotocol):
                raise ValueError(f"subprotocol is {subprotocol!r}, which is no token")
        if select_subprotocol is not None and not callable(select_subprotocol):
            raise TypeError(f"select_subprotocol is {select_subprotocol!r}, expected a function")
        self.origins = None if origins is None else tuple(origins)
        self.subprotocols = tuple(subprotocols or ())
        self.select_subprotocol = select_subprotocol
        self.compression = compression
        self.server_header = server_header
        self.date_header = date_header
        self.max_line = max_line
        self.max_head = max_head
        self.max_fields = max_fields
        # A head that fits into a line's limit has no line that exceeds it.
        self._longest_ordinary = min(max_line, max_head)
        self._behind_accept = CRLF + Headers(self.server_fields()).serialize()[:-2]

    def server_fields(self) -> list[tuple[str, str]]:
        """Return the Server field, as a list of none or one."""
        return [] if self.server_header is None else [("Server", self.server_header)]

    def end_of_head(self) -> bytes:
        """Return the Date field, if there is to be one, and the blank line."""
        return b"Date: " + http_date().encode() + b"\r\n\r\n" if self.date_header else CRLF


def accepting(
    policy: Policy, key: bytes, subprotocol: str | None, extensions: str | None, date: str
) -> Response:
    """
    Return the 101 response, RFC 6455 4.2.2.

    Args:
        key: the request's Sec-WebSocket-Key.
        extensions: the Sec-WebSocket-Extensions field's value; None leaves it out.
        date: the Date field's value, where the policy has one.
    """
    headers = Headers(
        [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_key(key).decode()),
        ]
    )
    if subprotocol is not None:
        headers["Sec-WebSocket-Protocol"] = subprotocol
    if extensions is not None:
        headers["Sec-WebSocket-Extensions"] = extensions
    headers.update(policy.server_fields())
    if policy.date_header:
        headers["Date"] = date
    return Response(101, reason_phrase(101), headers)


class FieldsByName(dict[bytes, bytes]):
    """What httptools calls for an ordinary head: at C speed, and of equal names one is lost."""

    __slots__ = ()
    on_header = dict.__setitem__


class ServerHandshake:
    """
    One connection's opening handshake: `receive_data` until it is True, then `accept_bytes`.

    Attributes:
        method: the request's, once its line came.
        head: the raw request head with its blank line, once it is complete.
        rest: the bytes behind it.
        subprotocol: the one agreed on, once the request was accepted; None: none.
        deflate: the compression agreed on, likewise.
    """

    __slots__ = (
        "_fields",
        "_minor",
        "_policy",
        "_reader",
        "_repeated",
        "_request",
        "deflate",
        "head",
        "method",
        "rest",
        "subprotocol",
    )

    # Field values by lower-case name; of those that occur more than once, joined by commas (RFC
    # 9110 5.3), the names are in _repeated. Set when the head is complete.
    _fields: dict[bytes, bytes]
    _repeated: set[bytes] | frozenset[bytes]
    _minor: bytes

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._reader: HeadReader | None = None
        self._request: Request | None = None
        self.method = self.head = self.rest = b""
        self.subprotocol: str | None = None
        self.deflate: Agreed | None = None

    # ---------------------------------------------------------------- the head

    def receive_data(self, data: bytes) -> bool:
        """
        Take more bytes from the client; none once the head is complete.

        Any split of a request gives the same result.

        Returns: whether the head is complete; then call `accept`, or answer otherwise.
        Raises: Rejected, as soon as it is certain.
        Cost: linear in the bytes, however they are split.
        """
        reader = self._reader
        if reader is None:
            policy = self._policy
            end = data.find(b"\r\n\r\n") + 4
            if 3 < end <= policy._longest_ordinary and self._take_ordinary(data[:end]):
                self.rest = data[end:]
                self._judge_fields()
                return True
            reader = self._reader = HeadReader(policy.max_line, policy.max_head, policy.max_fields)
        try:
            complete = reader.receive_data(data)
        finally:
            self.method = reader.method
        if complete:
            self.head = reader.head
            self.rest = reader.rest
            self._minor = reader.minor
            self._join(reader.fields)
            self._reader = None
            self._judge_fields()
        return complete

    def _take_ordinary(self, head: bytes) -> bool:
        """Take a whole head, if it is one that `HeadReader` would take and no name occurs twice."""
        if not ORDINARY_REQUEST_LINE.match(head):
            return False
        received = FieldsByName()
        try:
            httptools.HttpRequestParser(received).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # as it should be
        except httptools.HttpParserError:
            return False
        fields = {name.lower(): value for name, value in received.items()}
        lines = len(fields) + 2
        # As many lines as names: none occurs twice. All other bytes are text: none is a control,
        # and no CR or LF stands alone.
        if head.count(CRLF) != lines or head.translate(None, TEXT) != CRLF * lines:
            return False
        if len(fields) > self._policy.max_fields:
            return False
        self._fields = fields
        self._repeated = NONE
        self._minor = b"1"
        self.method = b"GET"
        self.head = head
        return True

    def _join(self, received: FieldList) -> None:
        fields: dict[bytes, bytes] = {}
        repeated: set[bytes] = set()
        for name, value in received:
            name = name.lower()
            if name in fields:
                repeated.add(name)
                value = fields[name] + b", " + value
            fields[name] = value
        self._fields = fields
        self._repeated = repeated

    def _judge_fields(self) -> None:
        """The rules that hold for every request, whatever it asks for."""
        fields = self._fields
        host = fields.get(b"host")
        if host is None:
            # RFC 9112 3.2: 400 "to any HTTP/1.1 request message that lacks a Host header field and
            # to any request message that contains more than one Host header field line or a Host
            # header field with an invalid field value."
            if self._minor != b"0":
                raise reject(400, InvalidHeader("Host"))
        elif b"host" in self._repeated or not is_host(host.strip(b" \t")):
            raise reject(400, InvalidHeader("Host", host.decode("latin-1")))
        # A body would be taken for frames.
        if b"transfer-encoding" in fields:
            raise reject(400, InvalidMessage("a request with a body (Transfer-Encoding) is not accepted"))
        length = fields.get(b"content-length")
        if length is not None and not ZERO.fullmatch(length.strip(b" \t")):
            raise reject(400, InvalidMessage("a request with a body (Content-Length) is not accepted"))

    # ---------------------------------------------------------------- the answer

    @property
    def request(self) -> Request:
        """The request, as hooks and handlers see it, once the head is complete."""
        if self._request is None:
            self._request = Request.parse(self.head)
        return self._request

    def serialize(self, response: Response) -> bytes:
        """Return a response's bytes as this request may get them: HEAD gets no body."""
        policy = self._policy
        more = () if response.status_code == 101 else policy.server_fields()
        return response.serialize(with_body=self.method != b"HEAD", with_date=policy.date_header, more=more)

    def accept_bytes(self, connection: Any = None) -> bytes:
        """
        Judge the request and return the bytes of the 101: `accept` without the objects.

        Args, raises: as `accept`.
        """
        key = self._judge_upgrade()
        self._choose_subprotocol(connection)
        behind = self._policy._behind_accept
        if self.subprotocol is not None:
            behind = b"\r\nSec-WebSocket-Protocol: " + self.subprotocol.encode() + behind
        if self.deflate is not None:
            behind = b"\r\nSec-WebSocket-Extensions: " + self.deflate.header.encode() + behind
        return ACCEPT_PREFIX + accept_key(key) + behind + self._policy.end_of_head()

    def accept(self, connection: Any = None) -> Response:
        """
        Judge the request by everything that comes after the hooks, RFC 6455 4.2.1 and 4.2.2.

        Args:
            connection: handed to `select_subprotocol`.

        Returns: the 101 response; `subprotocol` is set.
        Raises: Rejected; ValueError when `select_subprotocol` chose what the client did not offer,
            and whatever it raises but NegotiationError: faults of the server, status 500.
        """
        key = self._judge_upgrade()
        self._choose_subprotocol(connection)
        header = None if self.deflate is None else self.deflate.header
        return accepting(self._policy, key, self.subprotocol, header, http_date())

    def _judge_upgrade(self) -> bytes:
        """Return the key of a valid opening handshake, RFC 6455 4.2.1."""
        fields = self._fields
        if self.method != b"GET":
            # RFC 9110 9.1: 501 for a method that is not recognized, 405 for one that is not allowed.
            invalid_method = InvalidMethod(self.method.decode())
            if self.method in KNOWN_METHODS:
                raise reject(405, invalid_method, ("Allow", "GET"))
            raise reject(501, invalid_method)
        if self._minor == b"0":
            # RFC 9110 7.8: "A server MUST ignore an Upgrade header field that is received in an
            # HTTP/1.0 request."
            raise upgrade_required(InvalidProtocol("HTTP/1.0"))
        self._judge_option("Upgrade", fields.get(b"upgrade"), b"websocket")
        self._judge_option("Connection", fields.get(b"connection"), b"upgrade")
        version = fields.get(b"sec-websocket-version")
        if version != b"13" and (version is None or version.strip(b" \t") != b"13"):
            raise self._version_error(version)
        key = fields.get(b"sec-websocket-key")
        if key is None:
            raise reject(400, InvalidHeader("Sec-WebSocket-Key"))
        key = key.strip(b" \t")
        if not KEY.fullmatch(key):
            raise reject(400, InvalidHeaderValue("Sec-WebSocket-Key", key.decode("latin-1")))
        if b"sec-websocket-protocol" in fields:
            offered = self._offered()
            if not offered or not all(map(TOKEN.fullmatch, offered)):
                value = fields[b"sec-websocket-protocol"].decode("latin-1")
                raise reject(400, InvalidHeaderValue("Sec-WebSocket-Protocol", value))
        if b"origin" in self._repeated:
            raise reject(400, InvalidHeaderValue("Origin", fields[b"origin"].decode("latin-1")))
        if self._policy.origins is not None:
            self._judge_origin(self._policy.origins)
        if self._policy.compression is not None and b"sec-websocket-extensions" in fields:
            self._choose_extensions(self._policy.compression)
        return key

    @staticmethod
    def _judge_option(name: str, value: bytes | None, option: bytes) -> None:
        """Judge whether a list field has an option, without regard to case."""
        if value is None:
            raise upgrade_required(InvalidUpgrade(name))
        if value.lower() != option:
            text = value.decode("latin-1")
            if option.decode() not in parse_list(text.lower()):
                raise upgrade_required(InvalidUpgrade(name, text))

    def _version_error(self, version: bytes | None) -> Rejected:
        # RFC 6455 4.2.2: for another version a server "MUST abort the WebSocket handshake described
        # in this section and instead send an appropriate HTTP error code (such as 426 Upgrade
        # Required) and a |Sec-WebSocket-Version| header field indicating the version(s) the server
        # is capable of understanding."
        name = "Sec-WebSocket-Version"
        if version is None:
            return reject(400, InvalidHeader(name), (name, "13"))
        error = InvalidHeaderValue(name, version.decode("latin-1"))
        if b"sec-websocket-version" in self._repeated:
            return reject(400, error, (name, "13"))
        return upgrade_required(error, (name, "13"))

    def _judge_origin(self, origins: Sequence[str | re.Pattern[str] | None]) -> None:
        value = self._fields.get(b"origin")
        origin = None if value is None else value.strip(b" \t").decode("latin-1")
        for allowed in origins:
            if isinstance(allowed, re.Pattern):
                if origin is not None and allowed.fullmatch(origin):
                    return
            elif allowed == origin:
                return
        raise reject(403, InvalidOrigin(origin))

    def _choose_extensions(self, compression: Deflate) -> None:
        value = self._fields[b"sec-websocket-extensions"].decode("latin-1").strip(" \t")
        try:
            offers = parse_extensions(value)
        except ValueError as error:
            raise reject(400, InvalidHeaderValue("Sec-WebSocket-Extensions", value)) from error
        self.deflate = compression.answer(offers)

    def _offered(self) -> list[str]:
        return parse_list(self._fields.get(b"sec-websocket-protocol", b"").decode("latin-1"))

    def _choose_subprotocol(self, connection: Any) -> None:
        policy = self._policy
        if policy.select_subprotocol is not None:
            offered = self._offered()
            try:
                chosen = policy.select_subprotocol(connection, offered)
            except NegotiationError as error:
                raise reject(400, error) from error
            if chosen is not None and chosen not in offered:
                raise ValueError(f"select_subprotocol returned {chosen!r}, the client offers {offered!r}")
            self.subprotocol = chosen
        elif policy.subprotocols:
            offered = self._offered()
            self.subprotocol = next((name for name in policy.subprotocols if name in offered), None)
            if self.subprotocol is None:
                ours = ", ".join(policy.subprotocols)
                raise reject(400, NegotiationError(f"none of the subprotocols {ours} is offered"))
