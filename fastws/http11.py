"""HTTP/1.1 messages of the opening handshake: a request as hooks see it, and a response.

In: a request head that was found valid, or what a response shall say. Out: a `Request`; a
response's bytes. RFC 9112.
"""

from __future__ import annotations

import email.utils
import http
from dataclasses import dataclass, field

from fastws.headers import Headers

LEADING_WHITESPACE = " \t"


@dataclass
class Request:
    """
    A request for an opening handshake, or for a page.

    Attributes:
        path: the target, with the query; of an absolute-form target what follows the host.
        headers: its fields.
        method: "GET" for an opening handshake.
        version: "1.1" or "1.0".
    """

    path: str
    headers: Headers
    method: str = "GET"
    version: str = "1.1"

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Return the request of a head that was found valid, to its blank line."""
        first, *lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")
        method, target, version = first.split(" ")
        headers = Headers()
        for line in lines:
            if line:
                name, _, value = line.partition(":")
                headers._add(name, value.strip(LEADING_WHITESPACE))
        scheme, separator, rest = target.partition("://")
        if separator and "/" not in scheme and "?" not in scheme:
            # RFC 9112 3.2.2: the target's host takes the place of the Host field.
            end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
            target = rest[end:] if rest[end : end + 1] == "/" else "/" + rest[end:]
            if "Host" in headers:
                del headers["Host"]
            headers._add("Host", rest[:end])
        return cls(target, headers, method, version[5:])


@dataclass
class Response:
    """
    A response to a request.

    Attributes:
        status_code: 101 accepts the connection.
        reason_phrase: for people.
        headers: Date, Content-Length and Connection are added where they are missing.
        body: bytes.
    """

    status_code: int
    reason_phrase: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    def serialize(self, *, with_body: bool = True) -> bytes:
        """
        Return the response's bytes.

        Args:
            with_body: False for the answer to a HEAD request, RFC 9110 9.3.2.

        Raises: ValueError when the status or the reason cannot stand in a message.
        """
        if not 100 <= self.status_code <= 599:
            raise ValueError(f"status is {self.status_code}, allowed are 100 to 599")
        if not self.reason_phrase.isprintable() or not self.reason_phrase.isascii():
            raise ValueError(f"reason phrase is {self.reason_phrase!r}, allowed is printable ASCII")
        headers = self.headers
        lines = [f"HTTP/1.1 {self.status_code} {self.reason_phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.raw_items()]
        if self.status_code != 101:
            if "Date" not in headers:
                lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
            if "Content-Length" not in headers and self.status_code >= 200 and self.status_code not in (204, 304):
                lines.append(f"Content-Length: {len(self.body)}")
            if "Connection" not in headers:
                lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return head + self.body if with_body and self.status_code != 101 else head


def phrase(status: int) -> str:
    """Return the standard reason phrase."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
