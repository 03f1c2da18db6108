"""The server's side of the opening handshake, without I/O: RFC 6455 4.2, RFC 9110, RFC 9112.

In: the bytes of a new connection, in any pieces. Out: a response, 101 or not, and the bytes
behind the request, which are frames.

Theory of operation. A request head is judged line by line, each when it is complete, by size,
then by its characters, then by httptools, so that the verdict does not depend on how the bytes
came. httptools knows the grammar and little else: it takes requests without a Host, with a body,
in any version. All those rules are here. The ordinary head, which comes whole and is fine, is
given to httptools at once; only if anything about it is unusual is it judged line by line.

The order of judgement: grammar and size; Host; body; then the server's hooks, which may answer
any valid request; then method, version, Upgrade, Connection, Sec-WebSocket-*, Origin.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from typing import Any

import httptools

from fastws.exceptions import InvalidHandshake
from fastws.headers import TOKEN, Headers, accept_key, parse_list
from fastws.http11 import Request, Response, phrase
from fastws.version import __version__

SERVER_HEADER = f"Python/{platform.python_version()[:4].rstrip('.')} fastws/{__version__}"

MAX_LINE = 8 * 1024
MAX_HEAD = 32 * 1024
MAX_FIELDS = 128

REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
# What may be in a line: no control character; a CR or LF ends it only as CRLF.
BAD_IN_REQUEST_LINE = re.compile(rb"[^ -~]")
BAD_IN_FIELD_LINE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
BAD_IN_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[^\r]\n|\r[^\n]")
ABSOLUTE = re.compile(rb"(?:http|https|ws|wss)://([^/?#]+)([/?][^#]*)?", re.IGNORECASE)
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::[0-9]*)?")
KEY = re.compile(rb"[+/0-9A-Za-z]{22}==")
ZERO = re.compile(rb"0+")


class Rejected(InvalidHandshake):
    """The request gets `response`, and no WebSocket connection."""

    def __init__(self, response: Response, why: str) -> None:
        super().__init__(why)
        self.response = response


def rejection(status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """
    Return a plain text response that ends the connection.

    Args:
        status: the HTTP status code.
        text: one or more lines for people; ends with a newline in any case.
        headers: further fields.
    """
    body = (text if text.endswith("\n") else text + "\n").encode()
    fields = Headers(headers)
    if "Content-Type" not in fields:
        fields["Content-Type"] = "text/plain; charset=utf-8"
    return Response(status, phrase(status), fields, body)


def reject(status: int, why: str, *headers: tuple[str, str]) -> Rejected:
    return Rejected(rejection(status, f"Failed to open a WebSocket connection: {why}.", headers), why)


def upgrade_required(why: str, *headers: tuple[str, str]) -> Rejected:
    # RFC 9110 15.5.22 wants Upgrade in it, and 7.8 wants Connection to name Upgrade.
    return reject(426, why, ("Upgrade", "websocket"), ("Connection", "Upgrade, close"), *headers)


class Policy:
    """
    What a server asks of requests; shared by all of its connections.

    Args:
        origins: allowed Origin values: strings, compiled patterns for the whole value, None for a
            request without one. None allows all.
        subprotocols: what the server speaks, best first.
        select_subprotocol: called with the connection and what the client offers, instead.
        server_header: the Server field of a 101; None leaves it out.
        needs_request: hooks look at requests.

    Raises: ValueError and TypeError for values that cannot be sent or compared.
    """

    __slots__ = ("_suffix", "needs_request", "origins", "select_subprotocol", "server_header", "subprotocols")

    def __init__(
        self,
        *,
        origins: Sequence[str | re.Pattern[str] | None] | None = None,
        subprotocols: Sequence[str] | None = None,
        select_subprotocol: Callable[[Any, Sequence[str]], str | None] | None = None,
        server_header: str | None = SERVER_HEADER,
        needs_request: bool = False,
    ) -> None:
        for name, value in (("origins", origins), ("subprotocols", subprotocols)):
            if isinstance(value, str):
                raise TypeError(f"{name} is the string {value!r}, expected a sequence of them")
        for origin in origins or ():
            if origin is not None and not isinstance(origin, (str, re.Pattern)):
                raise TypeError(f"an origin is {origin!r}, expected str, a compiled pattern or None")
        for subprotocol in subprotocols or ():
            if not TOKEN.fullmatch(subprotocol):
                raise ValueError(f"subprotocol is {subprotocol!r}, which is no token")
        if select_subprotocol is not None and not callable(select_subprotocol):
            raise TypeError(f"select_subprotocol is {select_subprotocol!r}, expected a function")
        self.origins = None if origins is None else tuple(origins)
        self.subprotocols = None if subprotocols is None else tuple(subprotocols)
        self.select_subprotocol = select_subprotocol
        self.server_header = server_header
        self.needs_request = needs_request
        suffix = Headers() if server_header is None else Headers(Server=server_header)
        self._suffix = b"\r\n" + suffix.serialize()


ACCEPT_PREFIX = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)


class Fields:
    """What httptools calls with each field."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.items.append((name, value))


class ServerHandshake:
    """
    One connection's opening handshake.

    Attributes:
        head: the raw request head with its blank line, once it is complete.
        rest: the bytes behind it.
        subprotocol: the one agreed on, once the request was accepted; None: none.
    """

    __slots__ = (
        "_buffer", "_count", "_fields", "_parser", "_policy", "_position", "_repeated", "_request", "_scanned",
        "_values", "_version", "head", "method", "rest", "subprotocol",
    )  # fmt: skip

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._buffer: bytearray | None = None
        self._position = 0  # where the first line begins that was not judged
        self._scanned = 0  # no CRLF begins before here
        self._count = 0  # lines judged
        self._parser: Any = None
        self._fields: Fields
        self._values: dict[bytes, bytes]
        self._repeated: set[bytes] = set()
        self._request: Request | None = None
        self._version = b""
        self.method = b""
        self.head = b""
        self.rest = b""
        self.subprotocol: str | None = None

    # ---------------------------------------------------------------- the head

    def receive_data(self, data: bytes) -> bool:
        """
        Take more bytes from the client.

        Returns: whether the head is complete; then call `accept`, or answer otherwise.
        Raises: Rejected, as soon as it is certain.
        Cost: linear in the bytes, however they are split.
        """
        if self._buffer is None:
            end = data.find(b"\r\n\r\n") + 4
            if 4 < end <= MAX_LINE and self._take_ordinary(data[:end]):
                self.rest = data[end:]
                self._judge_fields()
                return True
            self._buffer = bytearray()
        self._buffer += data
        return self._take_lines(self._buffer)

    def _take_ordinary(self, head: bytes) -> bool:
        """Take a whole head if there is nothing unusual about it."""
        line_end = head.find(b"\r\n")
        line = REQUEST_LINE.fullmatch(head, 0, line_end)
        if line is None or line[3] != b"1" or line[2][0] != 47 or b"#" in line[2] or BAD_IN_HEAD.search(head):
            return False
        fields = Fields()
        parser = httptools.HttpRequestParser(fields)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            return False
        if len(fields.items) > MAX_FIELDS:
            return False
        self._fields = fields
        self.method = line[1]
        self._version = line[4]
        self.head = head
        return True

    def _take_lines(self, buffer: bytearray) -> bool:
        if self._count == 0 and self._position == 0 and buffer[:1] == b"\r":
            # RFC 9112 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the
            # request-line". One it is.
            if len(buffer) == 1:
                return False
            if buffer[1] != 10:
                raise reject(400, "a CR is not followed by LF")
            self._position = self._scanned = 2
        while True:
            end = buffer.find(b"\r\n", self._scanned)
            size = (end if end >= 0 else len(buffer)) - self._position
            first = self._count == 0
            if size > MAX_LINE:
                if first:
                    raise reject(414, f"the request line exceeds {MAX_LINE} bytes")
                raise reject(431, f"a header field exceeds {MAX_LINE} bytes")
            if self._position + size > MAX_HEAD:
                raise reject(431, f"the request head exceeds {MAX_HEAD} bytes")
            stop = end if end >= 0 else len(buffer)
            if end < 0 and buffer[-1:] == b"\r" and stop > self._position:
                stop -= 1  # its LF may come
            # A byte is looked at once: what came before _scanned was fine.
            bad = (BAD_IN_REQUEST_LINE if first else BAD_IN_FIELD_LINE).search(buffer, self._scanned, stop)
            if bad is not None:
                raise reject(400, f"byte 0x{buffer[bad.start()]:02x} must not be in the request head")
            if end < 0:
                self._scanned = stop
                return False
            line = bytes(buffer[self._position : end + 2])
            self._position = self._scanned = end + 2
            self._count += 1
            if first:
                self._take_request_line(line)
            else:
                self._feed(line)
                if len(self._fields.items) > MAX_FIELDS or self._count > MAX_FIELDS + 2:
                    raise reject(431, f"there are more than {MAX_FIELDS} header fields")
                if line == b"\r\n":
                    self.head = bytes(buffer[: self._position])
                    self.rest = bytes(buffer[self._position :])
                    self._buffer = None
                    self._judge_fields()
                    return True

    def _take_request_line(self, line: bytes) -> None:
        found = REQUEST_LINE.fullmatch(line, 0, len(line) - 2)
        if found is None:
            raise reject(400, "the request line is malformed")
        self.method, target, major, self._version = found.groups()
        if major != b"1":
            raise reject(505, f"HTTP/{major.decode()}.{self._version.decode()} is not supported")
        self._fields = Fields()
        self._parser = httptools.HttpRequestParser(self._fields)
        self._feed(line)
        if self.method == b"CONNECT":
            raise reject(405, "method is CONNECT, allowed is GET", ("Allow", "GET"))
        if b"#" in target or not (target[:1] == b"/" or self._absolute(target)):
            raise reject(400, "the request target is neither a path nor an absolute URI")

    @staticmethod
    def _absolute(target: bytes) -> bool:
        found = ABSOLUTE.fullmatch(target)
        return found is not None and HOST.fullmatch(found[1]) is not None

    def _feed(self, line: bytes) -> None:
        try:
            self._parser.feed_data(line)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserInvalidMethodError:
            raise reject(501, "the method is unknown") from None
        except httptools.HttpParserError as error:
            raise reject(400, f"the request is malformed ({error})") from None

    def _judge_fields(self) -> None:
        """The rules that hold for every request, whatever it asks for."""
        self._parser = None
        values: dict[bytes, bytes] = {}
        for name, value in self._fields.items:
            name = name.lower()
            value = value.strip(b" \t")
            if name in values:
                self._repeated.add(name)
                value = values[name] + b", " + value
            values[name] = value
        self._values = values
        host = values.get(b"host")
        if host is None:
            if self._version != b"0":
                raise reject(400, "the Host field is missing")
        elif b"host" in self._repeated:
            raise reject(400, "there is more than one Host field")
        elif not HOST.fullmatch(host):
            raise reject(400, "the Host field is invalid")
        if b"transfer-encoding" in values:
            raise reject(400, "a request with a body (Transfer-Encoding) is not accepted")
        length = values.get(b"content-length")
        if length is not None and not ZERO.fullmatch(length):
            raise reject(400, "a request with a body (Content-Length) is not accepted")

    # ---------------------------------------------------------------- the answer

    @property
    def request(self) -> Request:
        """The request, as hooks and handlers see it."""
        if self._request is None:
            self._request = Request.parse(self.head)
        return self._request

    def serialize(self, response: Response) -> bytes:
        """Return a response's bytes as this request may get them: HEAD gets no body."""
        return response.serialize(with_body=self.method != b"HEAD")

    def accept_bytes(self, connection: Any = None) -> bytes:
        """Judge the request and return the bytes of the 101; raises what `accept` does."""
        key = self._judge_upgrade()
        self._select_subprotocol(connection)
        if self.subprotocol is None:
            return ACCEPT_PREFIX + accept_key(key) + self._policy._suffix
        chosen = b"\r\nSec-WebSocket-Protocol: " + self.subprotocol.encode()
        return ACCEPT_PREFIX + accept_key(key) + chosen + self._policy._suffix

    def accept(self, connection: Any = None) -> Response:
        """
        Judge the request by everything that comes after the hooks, RFC 6455 4.2.1 and 4.2.2.

        Args:
            connection: handed to `select_subprotocol`.

        Returns: the 101 response; `subprotocol` is set.
        Raises: Rejected; ValueError for a subprotocol that the client did not offer.
        """
        key = self._judge_upgrade()
        self._select_subprotocol(connection)
        headers = Headers(
            {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Accept": accept_key(key).decode(),
            }
        )
        if self.subprotocol is not None:
            headers["Sec-WebSocket-Protocol"] = self.subprotocol
        if self._policy.server_header is not None:
            headers["Server"] = self._policy.server_header
        return Response(101, "Switching Protocols", headers)

    def _judge_upgrade(self) -> bytes:
        values = self._values
        if self.method != b"GET":
            raise reject(405, f"method is {self.method.decode()}, allowed is GET", ("Allow", "GET"))
        if self._version == b"0":
            # RFC 9110 7.8: "A server MUST ignore an Upgrade header field that is received in an
            # HTTP/1.0 request."
            raise upgrade_required("HTTP/1.0 has no upgrade")
        upgrade = values.get(b"upgrade")
        if upgrade is None:
            raise upgrade_required("the Upgrade field is missing; you need a WebSocket client")
        if upgrade.lower() != b"websocket" and "websocket" not in parse_list(upgrade.lower().decode("latin-1")):
            raise upgrade_required("the Upgrade field does not ask for websocket")
        connection = values.get(b"connection", b"").lower()
        if connection != b"upgrade" and "upgrade" not in parse_list(connection.decode("latin-1")):
            raise upgrade_required("the Connection field does not name Upgrade")
        key = values.get(b"sec-websocket-key")
        if key is None:
            raise reject(400, "the Sec-WebSocket-Key field is missing")
        if not KEY.fullmatch(key) or b"sec-websocket-key" in self._repeated:
            raise reject(400, "the Sec-WebSocket-Key field is not one Base64 form of 16 bytes")
        version = values.get(b"sec-websocket-version")
        if version != b"13":
            ours = ("Sec-WebSocket-Version", "13")
            if version is None:
                raise reject(400, "the Sec-WebSocket-Version field is missing", ours)
            if b"sec-websocket-version" in self._repeated:
                raise reject(400, "there is more than one Sec-WebSocket-Version field", ours)
            # RFC 6455 4.4
            raise upgrade_required("the Sec-WebSocket-Version is not 13", ours)
        offered = values.get(b"sec-websocket-protocol")
        if offered is not None:
            names = parse_list(offered.decode("latin-1"))
            if not names or not all(TOKEN.fullmatch(name) for name in names):
                raise reject(400, "the Sec-WebSocket-Protocol field is not a list of tokens")
        if b"origin" in self._repeated:
            raise reject(400, "there is more than one Origin field")
        if self._policy.origins is not None:
            self._judge_origin(self._policy.origins)
        return key

    def _judge_origin(self, origins: Sequence[str | re.Pattern[str] | None]) -> None:
        value = self._values.get(b"origin")
        origin = None if value is None else value.decode("latin-1")
        for allowed in origins:
            if isinstance(allowed, re.Pattern):
                if origin is not None and allowed.fullmatch(origin):
                    return
            elif allowed == origin:
                return
        raise reject(403, "the origin is not allowed")

    def _select_subprotocol(self, connection: Any) -> None:
        policy = self._policy
        if policy.select_subprotocol is None and policy.subprotocols is None:
            return
        field = self._values.get(b"sec-websocket-protocol")
        offered = [] if field is None else parse_list(field.decode("latin-1"))
        if policy.select_subprotocol is not None:
            chosen = policy.select_subprotocol(connection, offered)
            if chosen is not None and chosen not in offered:
                raise ValueError(f"select_subprotocol returned {chosen!r}, the client offers {', '.join(offered)}")
            self.subprotocol = chosen
        else:
            self.subprotocol = next((name for name in policy.subprotocols or () if name in offered), None)
