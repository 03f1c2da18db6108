"""
HTTP proxies: the way through with CONNECT, RFC 9110 9.3.6; RFC 6455 4.1.

In: the address of a proxy, given or from the environment; a socket that is connected to it. Out: a
request, and the socket when it leads to the server.
"""

from __future__ import annotations

import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastws.client_handshake import USER_AGENT
from fastws.exceptions import InvalidMessage, InvalidProxy, InvalidProxyMessage, InvalidProxyStatus
from fastws.headers import Headers
from fastws.http11_responses import ResponseReader
from fastws.uri import CONTROL, WebSocketURI, authority, basic_credentials, host_of, to_ascii, user_info

if TYPE_CHECKING:
    import asyncio
    import socket

__all__ = ["Proxy", "connect_request", "get_proxy", "parse_proxy", "tunnel"]


@dataclass
class Proxy:
    """
    The parts of a proxy's address.

    Attributes:
        scheme: "http".
        host: a name in lower case, or an address; an IPv6 address has no brackets.
        port: always a number.
        username, password: of its user information, unquoted; both None without.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @property
    def user_info(self) -> tuple[str, str] | None:
        """The pair of username and password; None without."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password


def parse_proxy(proxy: str) -> Proxy:
    """
    Parse the address of a proxy, "http://user:password@host:port".

    Raises: InvalidProxy; also for SOCKS proxies and those that speak TLS, which cannot be used yet.
    """
    if CONTROL.search(proxy):
        raise InvalidProxy(proxy, "it has a control character")
    try:
        parts = urllib.parse.urlsplit(proxy)
        port = parts.port
    except ValueError as error:
        raise InvalidProxy(proxy, str(error)) from error
    if parts.scheme != "http":
        raise InvalidProxy(proxy, f"scheme is {parts.scheme!r}, only http proxies can be used")
    if parts.path not in ("", "/") or "?" in proxy or "#" in proxy:
        raise InvalidProxy(proxy, "it has a path, a query or a fragment, allowed are host and port")
    if port == 0:
        raise InvalidProxy(proxy, "port is 0, allowed are 1 to 65535")
    try:
        host = host_of(parts)
        username, password = user_info(parts)
    except ValueError as error:
        raise InvalidProxy(proxy, str(error)) from error
    return Proxy(parts.scheme, host, port or 80, username, password)


def get_proxy(uri: WebSocketURI) -> str | None:
    """
    Return the address of the proxy that the environment names for a URI; None for none.

    The variables, the first counts: ws_proxy or wss_proxy, socks_proxy, https_proxy, and for ws
    also http_proxy; no_proxy has the hosts to connect to without. RFC 6455 4.1 wants SOCKS first,
    then the proxy for HTTPS, then that for HTTP.
    """
    if urllib.request.proxy_bypass(f"{uri.host}:{uri.port}"):
        return None
    proxies = urllib.request.getproxies()
    kinds = ("wss", "socks", "https") if uri.secure else ("ws", "socks", "https", "http")
    for kind in kinds:
        proxy = proxies.get(kind)
        if proxy is not None:
            if kind == "socks" and proxy.startswith("http://"):
                # As systems give it, whatever the proxy speaks.
                return "socks5h://" + proxy.removeprefix("http://")
            return proxy
    return None


def connect_request(proxy: Proxy, uri: WebSocketURI, user_agent_header: str | None = USER_AGENT) -> bytes:
    """
    Return the request that asks a proxy for a tunnel, RFC 9110 9.3.6.

    Args:
        proxy: its user information becomes Proxy-Authorization.
        uri: of the server to reach.
        user_agent_header: the User-Agent field's value; None leaves it out.

    Raises: ValueError for what cannot stand in a request.
    """
    headers = Headers(Host=uri.host_field)
    if user_agent_header is not None:
        headers["User-Agent"] = user_agent_header
    if proxy.user_info is not None:
        headers["Proxy-Authorization"] = basic_credentials(*proxy.user_info)
    target = authority(to_ascii(uri.host), uri.port)
    return f"CONNECT {target} HTTP/1.1\r\n".encode() + headers.serialize()


def missing(end: bytes) -> int:
    """Return how many bytes a head lacks at least, that ends with `end` so far."""
    for count, done in enumerate((b"\r\n\r", b"\r\n", b"\r"), 1):
        if end.endswith(done):
            return count
    return 4


async def tunnel(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    proxy: Proxy,
    uri: WebSocketURI,
    user_agent_header: str | None = USER_AGENT,
) -> None:
    """
    Ask the proxy at the other end of `sock` for a tunnel to a server.

    Nothing behind the head of its answer is read: the next byte from the socket is the server's.

    Args:
        loop: the running one.
        sock: connected, and non-blocking; open in any case afterwards.
        proxy, uri, user_agent_header: as for `connect_request`.

    Raises:
        InvalidProxyStatus: the proxy refuses.
        InvalidProxyMessage: it answers with what is no HTTP, or ends the connection.
        OSError: the connection is lost.
    """
    await loop.sock_sendall(sock, connect_request(proxy, uri, user_agent_header))
    reader = ResponseReader(to_connect=True)
    end = b""
    try:
        while True:
            # It costs a call for every few bytes, but a socket cannot take a byte back.
            data = await loop.sock_recv(sock, missing(end))
            if not data:
                reader.receive_eof()
            if reader.receive_data(data):
                break
            end = (end + data)[-3:]
    except InvalidMessage as error:
        raise InvalidProxyMessage(f"the proxy's answer is not valid: {error}") from error
    assert reader.response is not None and not reader.rest
    if not 200 <= reader.response.status_code <= 299:
        raise InvalidProxyStatus(reader.response)
