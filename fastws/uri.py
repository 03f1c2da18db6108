"""
WebSocket URIs, RFC 6455 3, and what requests say of them.

In: a URI or IRI as text. Out: its parts, ready to connect to and to send; the values of the Host
and Authorization fields.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
from dataclasses import dataclass

from fastws.exceptions import InvalidURI
from fastws.http11 import is_host

__all__ = ["WebSocketURI", "parse_uri"]

DEFAULT_PORTS = {"ws": 80, "wss": 443}
# What stays as it is where an IRI becomes a URI, RFC 3987 3.1: all that is not past ASCII.
ASCII = "".join(map(chr, range(33, 127)))
CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass
class WebSocketURI:
    """
    The parts of a WebSocket URI.

    Attributes:
        secure: it is a wss URI.
        host: a name in lower case, or an address; an IPv6 address has no brackets.
        port: always a number.
        path: may be "".
        query: may be "".
        username, password: of its user information, unquoted; both None without.
    """

    secure: bool
    host: str
    port: int
    path: str
    query: str
    username: str | None = None
    password: str | None = None

    @property
    def resource_name(self) -> str:
        """The /resource name/ of RFC 6455 3: path and query."""
        return (self.path or "/") + (f"?{self.query}" if self.query else "")

    @property
    def user_info(self) -> tuple[str, str] | None:
        """The pair of username and password; None without."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password

    @property
    def host_field(self) -> str:
        """The value of the Host field, RFC 6455 4.1: with a port unless it is the default."""
        return authority(self.host, None if self.port == (443 if self.secure else 80) else self.port)


def parse_uri(uri: str) -> WebSocketURI:
    """
    Parse a URI or IRI of a WebSocket server, RFC 6455 3.

    Characters past ASCII are encoded: the host by IDNA, path and query by percents.

    Raises: InvalidURI.
    """
    if CONTROL.search(uri):
        # urllib would drop some of them in silence.
        raise InvalidURI(uri, "it has a control character, which must be percent-encoded")
    if " " in uri:
        raise InvalidURI(uri, "it has a space, which must be percent-encoded")
    try:
        parts = urllib.parse.urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise InvalidURI(uri, str(error)) from error
    if parts.scheme not in DEFAULT_PORTS:
        raise InvalidURI(uri, f"scheme is {parts.scheme!r}, allowed are ws and wss")
    if "#" in uri:
        # "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be
        # used on these URIs."
        raise InvalidURI(uri, "it has a fragment, which a WebSocket URI must not have")
    if port == 0:
        raise InvalidURI(uri, "port is 0, allowed are 1 to 65535")
    try:
        host = host_of(parts)
        username, password = user_info(parts)
    except ValueError as error:
        raise InvalidURI(uri, str(error)) from error
    path, query = (urllib.parse.quote(part, safe=ASCII) for part in (parts.path, parts.query))
    return WebSocketURI(
        parts.scheme == "wss", host, port or DEFAULT_PORTS[parts.scheme], path, query, username, password
    )


def host_of(parts: urllib.parse.SplitResult) -> str:
    """
    Return the host as it goes over the wire.

    Raises: ValueError for none, and as `to_ascii`.
    """
    host = parts.hostname
    if not host:
        raise ValueError("it has no host")
    if ":" not in host and "[" in parts.netloc.rpartition("@")[2]:
        # urllib drops the brackets, and looks into them only since Python 3.11.
        raise ValueError(f"host is [{host}], which is no address")
    return to_ascii(host)


def to_ascii(host: str) -> str:
    """
    Return a host as it goes over the wire, RFC 3490 4.

    Raises: ValueError for what is no host, RFC 3986 3.2.2.
    """
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise ValueError(f"host is {host}, which is no domain name: {error}") from error
    # A colon that is not an IPv6 address's would begin a port.
    if not is_host(authority(host).encode()):
        raise ValueError(f"host is {host!r}, which is neither a name nor an address")
    return host


def user_info(parts: urllib.parse.SplitResult) -> tuple[str | None, str | None]:
    """
    Return username and password, unquoted; None and None without.

    Raises: ValueError for what Basic authentication cannot say, RFC 7617 2.
    """
    if parts.username is None:
        return None, None
    if parts.password is None:
        raise ValueError("it has a username without a password")
    username = urllib.parse.unquote(parts.username, errors="strict")
    password = urllib.parse.unquote(parts.password, errors="strict")
    if ":" in username:
        raise ValueError("the username has a colon, which Basic authentication cannot send")
    if CONTROL.search(username + password):
        raise ValueError("username or password has a control character")
    return username, password


def authority(host: str, port: int | None = None) -> str:
    """Return host and port as in a URI, RFC 3986 3.2; an IPv6 address gets its brackets."""
    if ":" in host:
        host = f"[{host}]"
    return host if port is None else f"{host}:{port}"


def basic_credentials(username: str, password: str) -> str:
    """Return the value of an Authorization or Proxy-Authorization field, RFC 7617 2."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
