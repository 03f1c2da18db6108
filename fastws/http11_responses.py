"""
HTTP/1.1 responses, as a client reads them: to an opening handshake, and to CONNECT; RFC 9110 and RFC 9112.

In: the bytes of a server or a proxy, in any pieces, and their end. Out: a `Response`, and what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import httptools

from fastws.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    SecurityError,
)
from fastws.headers import Headers, parse_list
from fastws.http11 import BAD_IN_FIELD_LINE, FieldList, HeadReader, Response

# What a response may have, in bytes.
MAX_LINE = 8 * 1024
MAX_HEAD = 32 * 1024
MAX_FIELDS = 128
MAX_BODY = 1024 * 1024
# RFC 9110 15.2: "A client MUST be able to parse one or more 1xx responses received prior to a final
# response"; it need not parse any number of them.
MAX_INTERIM = 8

# RFC 9112 4.
STATUS_LINE = re.compile(rb"HTTP/([0-9]\.[0-9]) ([1-5][0-9][0-9]) ([\t -~\x80-\xff]*)")
FIELD_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n")


class ResponseSink(FieldList):
    """What httptools calls with a response: the fields of its head, its body, and its end."""

    __slots__ = ("body", "complete", "in_head")

    def __init__(self) -> None:
        self.in_head = True
        self.body = bytearray()
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # the trailer of a chunked body says nothing that we want to know
            self.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


class ResponseHeadReader(HeadReader):
    """
    A response head, line by line; as `HeadReader` otherwise.

    Args:
        versions: of HTTP that are accepted, as b"1.1".

    Attributes:
        status_code, reason_phrase: of the status line, once it came.
    """

    _what = "response"
    _first_line = "status line"
    # RFC 9112 4: a reason phrase may have the bytes of a field's value.
    _bad_in_first_line = BAD_IN_FIELD_LINE
    _has_empty_line_before = False

    __slots__ = ("_versions", "reason_phrase", "sink", "status_code")

    def __init__(self, versions: Collection[bytes]) -> None:
        super().__init__(MAX_LINE, MAX_HEAD, MAX_FIELDS)
        self._versions = versions
        self.fields = self.sink = ResponseSink()
        self.status_code = 0
        self.reason_phrase = ""

    def _fault(self, status: int, error: InvalidHandshake) -> InvalidHandshake:
        if isinstance(error, InvalidMessage):
            return error
        invalid = InvalidMessage(str(error))
        invalid.__cause__ = error
        return invalid

    def _line_too_long(self) -> InvalidHandshake:
        if self._count == 0:
            error = SecurityError(f"the {self._first_line} exceeds {self._max_line} bytes")
            return self._fault(0, error)
        return super()._line_too_long()

    def _take_first_line(self, line: bytes) -> None:
        found = STATUS_LINE.fullmatch(line, 0, len(line) - 2)
        if found is None:
            raise InvalidMessage("the status line is malformed")
        version, status, reason = found.groups()
        if version not in self._versions:
            allowed = " and ".join([f"HTTP/{one.decode()}" for one in self._versions])
            raise InvalidMessage(f"version is HTTP/{version.decode()}, allowed is {allowed}")
        self.status_code = int(status)
        self.reason_phrase = reason.decode("latin-1")
        self._parser = httptools.HttpResponseParser(self.sink)
        self._feed(line)

    def _feed(self, line: bytes) -> None:
        # httptools takes more: obsolete folding, and a space where a name ends.
        if self._count > 1 and line != b"\r\n" and not FIELD_LINE.fullmatch(line):
            raise InvalidMessage("a header field is malformed: it is not a name, a colon and a value")
        try:
            self._parser.feed_data(line)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError) as error:
            # It stops behind the head of every 101, and calls that an error where it has no Upgrade.
            if self.sink.in_head or self.status_code != 101:
                raise InvalidMessage(f"a header field is malformed: {error}") from error

    def feed_body(self, data: bytes) -> None:
        """Take bytes of the body, of which `sink` hears; what comes behind its end is passed over."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.sink.complete:
                raise InvalidMessage(f"the body is malformed: {error}") from error


class ResponseReader:
    """
    A response and its body, RFC 9112 4 and 6.

    Interim responses that may come before it are passed over, RFC 9110 15.2. A line may have 8 KiB,
    a head 32 KiB and 128 fields, a body as it is sent 1 MiB.

    Args:
        to_connect: it answers a CONNECT: nothing behind its head is looked at, and HTTP/1.0 will do.

    Attributes:
        response: the `Response`, once it is complete.
        rest: the bytes behind the head of one that has no body here: 101, or the answer to CONNECT.
    """

    __slots__ = ("_body_size", "_head", "_in_body", "_interim", "_to_connect", "response", "rest")

    def __init__(self, *, to_connect: bool = False) -> None:
        self._to_connect = to_connect
        self._head = self._next_head()
        self._in_body = False
        self._body_size = 0
        self._interim = 0
        self.response: Response | None = None
        self.rest = b""

    def _next_head(self) -> ResponseHeadReader:
        return ResponseHeadReader((b"1.1", b"1.0") if self._to_connect else (b"1.1",))

    def receive_data(self, data: bytes) -> bool:
        """
        Take more bytes; none once the response is complete.

        Any split of a response gives the same result.

        Returns: whether the response is complete.
        Raises: InvalidMessage; its cause is a SecurityError where a limit is exceeded.
        Cost: linear in the bytes.
        """
        while not self._in_body:
            if not self._head.receive_data(data):
                return False
            head, data = self._head, self._head.rest
            if head.status_code >= 200 or head.status_code == 101:
                if head.status_code == 101 or self._to_connect:
                    self.rest = data
                    return self._complete()
                self._begin_body()
            else:
                self._interim += 1
                if self._interim > MAX_INTERIM:
                    raise too_much(f"there are more than {MAX_INTERIM} interim responses")
                self._head = self._next_head()
        return self._take_body(data)

    def receive_eof(self) -> bool:
        """
        Take the end of the stream; it may complete the response.

        Returns: True, the response is complete.
        Raises: InvalidMessage, with an EOFError as its cause, when it comes too early.
        """
        if self.response is not None:
            return True
        if self._in_body and not self._has_length():
            return self._complete()
        where = "body" if self._in_body else "head"
        eof = EOFError(f"the connection ended within the {where} of a response")
        raise InvalidMessage(str(eof)) from eof

    def _begin_body(self) -> None:
        self._in_body = True
        codings = parse_list(",".join(self._values(b"transfer-encoding")).lower())
        if codings and codings != ["chunked"]:
            raise InvalidMessage(f"transfer coding is {', '.join(codings)}, allowed is chunked")
        for length in self._values(b"content-length"):
            # RFC 9110 8.6; a 304 tells the length of what it does not send.
            if int(length) > MAX_BODY and not self._head.sink.complete:
                raise self._body_too_big(f"is {length} bytes")

    def _body_too_big(self, size: str) -> InvalidMessage:
        status = self._head.status_code
        return too_much(f"the body of a response with status {status} {size}, limit is {MAX_BODY} bytes")

    def _values(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for field, value in self._head.sink if field.lower() == name]

    def _has_length(self) -> bool:
        return bool(self._values(b"content-length") or self._values(b"transfer-encoding"))

    def _take_body(self, data: bytes) -> bool:
        # No more than the limit is shown to the parser, so that it counts alike in any split.
        room = MAX_BODY - self._body_size
        if data and not self._head.sink.complete:
            self._body_size += len(data)
            self._head.feed_body(data[:room])
        if self._head.sink.complete:
            return self._complete()
        if len(data) > room:
            raise self._body_too_big("is longer")
        return False

    def _complete(self) -> bool:
        head = self._head
        fields = [(name.decode("latin-1"), value.decode("latin-1").strip(" \t")) for name, value in head.sink]
        self.response = Response(
            head.status_code, head.reason_phrase, Headers.received(fields), bytes(head.sink.body)
        )
        return True


def too_much(text: str) -> InvalidMessage:
    """Return the exception for a response that exceeds a limit."""
    invalid = InvalidMessage(text)
    invalid.__cause__ = SecurityError(text)
    return invalid
