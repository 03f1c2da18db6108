"""
HTTP/1.1 messages of the opening handshake: requests and responses, RFC 9110 and RFC 9112.

In: the bytes of a request head, in any pieces, or what a response shall say.
Out: the head, found to be HTTP, its fields and a `Request`; a `Response`, and its bytes.
"""

from __future__ import annotations

import email.utils
import http
import ipaddress
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httptools

from fastws.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidMessage,
    InvalidProtocol,
    RequestLineTooLong,
    SecurityError,
    TooManyHeaders,
)
from fastws.headers import Headers, parse_list

REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
BAD_IN_REQUEST_LINE = re.compile(rb"[^ -~]")
BAD_IN_FIELD_LINE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# What httptools gets for every request line: the line was judged, and of methods, targets and
# versions it knows less than RFC 9112.
PLAIN_REQUEST_LINE = b"GET / HTTP/1.1\r\n"

ABSOLUTE_FORM = re.compile(r"(?:http|ws)s?://([^/?#]*)([^#]*)", re.IGNORECASE)
# RFC 3986 3.2.2, and RFC 6874 for the zone.
HOST = re.compile(
    rb"(?:[\w\-.~!$&'()*+,;=]*(?:%[0-9A-Fa-f]{2}[\w\-.~!$&'()*+,;=]*)*"
    rb"|\[(?:([0-9A-Fa-f:.]+)(?:%25[\w\-.~%]+)?|v[0-9A-Fa-f]+\.[\w\-.~!$&'()*+,;=:]+)\])(?::[0-9]*)?"
)
# RFC 9112 4.
REASON_PHRASE = re.compile(r"[\t -~\x80-\xff]*")
# RFC 9110 6.4.1 and 15.3.6.
NO_CONTENT = frozenset([101, 204, 205, 304])


class DateCache:
    """
    The Date field's value of the current second, RFC 9110 5.6.7.

    Attributes:
        second: that of the last value, since the epoch.
    """

    def __init__(self) -> None:
        self.second = -1
        self._date = ""

    def __call__(self) -> str:
        now = int(time.time())
        if now != self.second:
            self._date = email.utils.formatdate(now, usegmt=True)
            self.second = now
        return self._date


http_date = DateCache()


@dataclass
class Request:
    """
    A request for an opening handshake, or for a page.

    Attributes:
        path: the target, with its query; of an absolute-form target what follows the host.
        headers: its fields.
        method: "GET" for an opening handshake.
        protocol: "HTTP/1.1" for an opening handshake.
    """

    path: str
    headers: Headers
    method: str = "GET"
    protocol: str = "HTTP/1.1"

    @property
    def version(self) -> str:
        """The version of HTTP alone: "1.1" or "1.0"."""
        return self.protocol[5:]

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Return the request of a head that was found valid, to its blank line."""
        first, *lines = head.decode("latin-1")[:-4].split("\r\n")
        method, target, protocol = first.split(" ")
        fields = [line.partition(":") for line in lines]
        headers = Headers.received((name, value.strip(" \t")) for name, _, value in fields)
        absolute = split_absolute(target)
        if absolute is not None:
            # RFC 9112 3.2.2: "the origin server MUST ignore the received Host header field (if
            # any) and instead use the host information of the request-target".
            host, target = absolute
            headers.pop("Host", None)
            headers["Host"] = host
        return cls(target, headers, method, protocol)


@dataclass
class Response:
    """
    A response to a request.

    Attributes:
        status_code: 101 accepts the connection.
        reason_phrase: for people.
        headers: a `Headers`, or what makes one. Date, Content-Length and Connection need not be
            in it: `serialize` adds what is missing.
        body: bytes.

    Raises: ValueError for a field that cannot stand in a message.
    """

    status_code: int
    reason_phrase: str
    headers: Headers = field(default_factory=Headers)
    body: bytes | bytearray = b""

    def __post_init__(self) -> None:
        if not isinstance(self.headers, Headers):
            self.headers = Headers(self.headers)

    def serialize(
        self, *, with_body: bool = True, with_date: bool = True, more: Sequence[tuple[str, str]] = ()
    ) -> bytes:
        """
        Return the response's bytes.

        The connection ends behind every response but a 101, and the response says so. Where a
        body is sent, Content-Length is its length, whatever `headers` has.

        Args:
            with_body: False for the answer to a HEAD request, RFC 9110 9.3.2.
            with_date: False adds no Date.
            more: fields to add where `headers` has none of that name.

        Raises: ValueError when something in it cannot stand in a message.
        """
        status, headers, body = int(self.status_code), self.headers, self.body
        if status != 101 and not 200 <= status <= 599:
            raise ValueError(f"status is {status}, allowed are 101 and 200 to 599")
        if not REASON_PHRASE.fullmatch(self.reason_phrase):
            raise ValueError(f"reason phrase is {self.reason_phrase!r}, allowed is one line of latin-1")
        if not isinstance(body, (bytes, bytearray)):
            raise ValueError(f"body is a {type(body).__name__}, expected bytes")
        if "Transfer-Encoding" in headers:
            raise ValueError("Transfer-Encoding is set, a response has a Content-Length instead")
        if status in NO_CONTENT:
            body = b""
            with_body = False
        fields = list(headers.raw_items())
        # For HEAD, and with 304, the length is what GET would get: a hook may know it better.
        told = "Content-Length" in headers
        if status != 304 and (with_body or body or status in NO_CONTENT or not told):
            fields = [item for item in fields if item[0].lower() != "content-length"]
            # RFC 9110 8.6: "MUST NOT send a Content-Length header field in any response with a
            # status code of 1xx (Informational) or 204 (No Content)."
            if status not in (101, 204):
                fields.append(("Content-Length", str(len(body))))
        if with_date and "Date" not in headers:
            fields.insert(0, ("Date", http_date()))
        if status != 101 and "close" not in parse_list(",".join(headers.get_all("Connection")).lower()):
            fields.append(("Connection", "close"))
        fields += [item for item in more if item[0] not in headers]
        lines = [f"{name}: {value}\r\n" for name, value in fields]
        head = f"HTTP/1.1 {status} {self.reason_phrase}\r\n{''.join(lines)}\r\n".encode("latin-1")
        return head + body if with_body else head


def reason_phrase(status: int) -> str:
    """Return the usual reason phrase of a status; "" for an unknown one, RFC 9112 4."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


class Rejected(InvalidHandshake):
    """
    The request gets `response`, and no WebSocket connection. Its cause says what is wrong.

    Attributes:
        response: what the client gets.
    """

    def __init__(self, response: Response, why: str) -> None:
        super().__init__(response, why)
        self.response = response
        self.why = why

    def __str__(self) -> str:
        return self.why


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
    for name, value in (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ):
        if name not in fields:
            fields[name] = value
    return Response(int(status), reason_phrase(status), fields, body)


def reject(status: int, error: InvalidHandshake, *headers: tuple[str, str]) -> Rejected:
    """Return the exception that answers `error` with `status`."""
    why = str(error)
    rejected = Rejected(rejection(status, f"Failed to open a WebSocket connection: {why}.", headers), why)
    rejected.__cause__ = error
    return rejected


def is_target(method: bytes, target: bytes) -> bool:
    """Tell whether a request line may have this target, RFC 9112 3.2."""
    if method == b"CONNECT":
        # 3.2.3: authority-form is for CONNECT alone, and CONNECT uses no other.
        return target.rpartition(b":")[2].isdigit() and is_host(target)
    if target[0] == 47:
        return b"#" not in target
    if target == b"*":
        return method == b"OPTIONS"
    absolute = split_absolute(target.decode("latin-1"))
    return absolute is not None and is_host(absolute[0].encode("latin-1"))


def is_host(value: bytes) -> bool:
    """Tell whether a value is a host, with or without a port; an empty one is none, RFC 9110 4.2.1."""
    found = HOST.fullmatch(value)
    if found is None or not value or value[0] == 58:
        return False
    if found[1] is not None:
        try:
            ipaddress.IPv6Address(found[1].decode())
        except ValueError:
            return False
    return True


def split_absolute(target: str) -> tuple[str, str] | None:
    """Return host and path of a target in absolute-form, RFC 9112 3.2.2; None in another form."""
    found = ABSOLUTE_FORM.fullmatch(target)
    if found is None:
        return None
    host, path = found.groups()
    return host, path if path[:1] == "/" else "/" + path


class FieldList(list[tuple[bytes, bytes]]):
    """What httptools calls with each field: it keeps their order, and all that have the same name."""

    __slots__ = ()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.append((name, value))


class HeadReader:
    """
    A request head, line by line.

    A line is judged by its bytes and its size as they come, and by its grammar when it is
    complete: any split gives the same verdict, at the same byte.

    Args:
        max_line: bytes of the request line, and of one field.
        max_head: bytes of the head with its blank line.
        max_fields: header fields.

    Attributes:
        method, minor: of the request line, once it came.
        fields: pairs of name and value.
        head, rest: the head with its blank line, and what came behind it, once it is complete.
    """

    # What is different in a response's head.
    _what = "request"
    _first_line = "request line"
    _bad_in_first_line = BAD_IN_REQUEST_LINE
    _has_empty_line_before = True

    __slots__ = (
        "_buffer",
        "_count",
        "_max_fields",
        "_max_head",
        "_max_line",
        "_parser",
        "_position",
        "_scanned",
        "fields",
        "head",
        "method",
        "minor",
        "rest",
    )

    def __init__(self, max_line: int, max_head: int, max_fields: int) -> None:
        self._max_line = max_line
        self._max_head = max_head
        self._max_fields = max_fields
        self._buffer = bytearray()
        self._position = 0  # where the first line begins that was not judged
        self._scanned = 0  # no byte before here is looked at again but to take its line
        self._count = 0  # lines judged
        self.fields = FieldList()
        self._parser: Any = None
        self.method = self.minor = self.head = self.rest = b""

    def receive_data(self, data: bytes) -> bool:
        """
        Take more bytes.

        Returns: whether the head is complete.
        Raises: Rejected at the first byte that makes the head invalid.
        Cost: O(len(data)), and the copy of a line when it is complete.
        """
        buffer = self._buffer
        buffer += data
        if self._position == 0 and self._has_empty_line_before and not self._skip_empty_line(buffer):
            return False
        while True:
            end = buffer.find(b"\r\n", self._scanned)
            stop = end if end >= 0 else len(buffer)
            if end < 0 and buffer[-1:] == b"\r" and stop > self._scanned:
                stop -= 1  # its LF may come
            self._judge_bytes(buffer, stop)
            if end < 0:
                self._scanned = stop
                return False
            if end + 2 > self._head_start() + self._max_head:
                raise self._head_too_big()
            line = bytes(buffer[self._position : end + 2])
            self._position = self._scanned = end + 2
            self._count += 1
            if self._count == 1:
                self._take_first_line(line)
            elif line != b"\r\n" and self._count > self._max_fields + 1:
                limit = self._max_fields
                raise self._fault(431, TooManyHeaders(f"there are more than {limit} header fields"))
            else:
                self._feed(line)
                if line == b"\r\n":
                    self.head = bytes(buffer[self._head_start() : self._position])
                    self.rest = bytes(buffer[self._position :])
                    return True

    def _fault(self, status: int, error: InvalidHandshake) -> InvalidHandshake:
        """Return what is raised for `error`; `status` is what a server answers to it."""
        return reject(status, error)

    def _head_start(self) -> int:
        return 2 if self._buffer[:1] == b"\r" else 0

    def _skip_empty_line(self, buffer: bytearray) -> bool:
        """
        Pass over one empty line, and tell whether a request line may begin.

        RFC 9112 2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore
        at least one empty line (CRLF) received prior to the request-line."
        """
        if buffer[:1] == b"\r":
            if len(buffer) == 1:
                return False
            if buffer[1] != 10:
                raise self._bad_byte(13)
            self._position = self._scanned = 2
        return True

    def _judge_bytes(self, buffer: bytearray, stop: int) -> None:
        """Judge the unfinished line's bytes up to `stop`: each by itself, then their number."""
        line_limit = self._position + self._max_line
        limit = min(line_limit, self._head_start() + self._max_head)
        pattern = self._bad_in_first_line if self._count == 0 else BAD_IN_FIELD_LINE
        bad = pattern.search(buffer, self._scanned, min(stop, limit))
        if bad is not None:
            raise self._bad_byte(bad[0][0])
        if stop > limit:
            raise self._line_too_long() if limit == line_limit else self._head_too_big()

    def _bad_byte(self, byte: int) -> InvalidHandshake:
        where = f"stands where it must not in a {self._what} head"
        return self._fault(400, InvalidMessage(f"byte 0x{byte:02x} {where}"))

    def _line_too_long(self) -> InvalidHandshake:
        limit = self._max_line
        if self._count == 0:
            return self._fault(414, RequestLineTooLong(f"the {self._first_line} exceeds {limit} bytes"))
        return self._fault(431, HeaderLineTooLong(f"a header field exceeds {limit} bytes"))

    def _head_too_big(self) -> InvalidHandshake:
        return self._fault(431, SecurityError(f"the {self._what} head exceeds {self._max_head} bytes"))

    def _take_first_line(self, line: bytes) -> None:
        found = REQUEST_LINE.fullmatch(line, 0, len(line) - 2)
        if found is None:
            raise reject(400, InvalidMessage("the request line is malformed"))
        self.method, target, major, self.minor = found.groups()
        if major != b"1":
            raise reject(505, InvalidProtocol(f"HTTP/{major.decode()}.{self.minor.decode()}"))
        if not is_target(self.method, target):
            raise reject(400, InvalidMessage("the request target has none of the forms of its method"))
        self._parser = httptools.HttpRequestParser(self.fields)
        self._feed(PLAIN_REQUEST_LINE)

    def _feed(self, line: bytes) -> None:
        try:
            self._parser.feed_data(line)
        except httptools.HttpParserUpgrade:
            pass  # said of the blank line, when Upgrade is among the fields
        except httptools.HttpParserError as error:
            malformed = InvalidMessage(f"a header field is malformed: {error}")
            raise reject(400, malformed) from malformed
