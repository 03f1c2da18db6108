import asyncio
from urllib.parse import unquote

import pytest
import websockets.exceptions
import websockets.proxy
import websockets.uri

from fastws.exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus, ProxyError
from fastws.proxy import Proxy, connect_request, get_proxy, parse_proxy, tunnel
from fastws.uri import WebSocketURI, parse_uri

URI = parse_uri("ws://example.com/path")
PROXY = Proxy("http", "localhost", 3128)

GOOD = {
    "http://localhost": Proxy("http", "localhost", 80),
    "http://localhost/": Proxy("http", "localhost", 80),
    "http://LOCALHOST:3128": Proxy("http", "localhost", 3128),
    "http://[::1]:3128": Proxy("http", "::1", 3128),
    "http://me:secret@localhost:3128": Proxy("http", "localhost", 3128, "me", "secret"),
    "http://me%40x:s%3Ae%2Fc@localhost": Proxy("http", "localhost", 80, "me@x", "s:e/c"),
    "http://münchen.example": Proxy("http", "xn--mnchen-3ya.example", 80),
}


@pytest.mark.parametrize(("address", "want"), GOOD.items())
def test_address_is_parsed(address, want):
    assert parse_proxy(address) == want
    theirs = websockets.proxy.parse_proxy(address)
    if theirs.username is not None:  # older releases leave it quoted
        theirs.username, theirs.password = map(unquote, (theirs.username, theirs.password))
    assert vars(theirs) == vars(want)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("socks5h://localhost:1080", "scheme is 'socks5h', only http proxies can be used"),
        ("socks4://localhost:1080", "scheme is 'socks4'"),
        ("https://localhost", "scheme is 'https'"),
        ("localhost:3128", "scheme is 'localhost'"),
        ("", "scheme is ''"),
        ("http://", "no host"),
        ("http://:80", "no host"),
        ("http://localhost/path", "allowed are host and port"),
        ("http://localhost?query", "allowed are host and port"),
        ("http://localhost#fragment", "allowed are host and port"),
        ("http://localhost:0", "port is 0"),
        ("http://localhost:a", "[Pp]ort"),
        ("http://localhost:65536", "[Pp]ort"),
        ("http://me@localhost", "username without a password"),
        ("http://a%3Ab:c@localhost", "colon"),
        ("http://a\r\nb", "control character"),
        ("http://a b", "neither a name nor an address"),
    ],
)
def test_what_is_no_http_proxy_is_refused(address, said):
    with pytest.raises(InvalidProxy, match=said) as caught:
        parse_proxy(address)
    assert caught.value.proxy == address


# ---------------------------------------------------------------- the environment


@pytest.fixture
def environment(monkeypatch):
    for kind in ("ws", "wss", "http", "https", "socks", "all", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_proxy".upper(), raising=False)
    return monkeypatch.setenv


@pytest.mark.parametrize(
    ("variables", "ws", "wss"),
    [
        ({}, None, None),
        ({"http_proxy": "http://a"}, "http://a", None),
        ({"HTTP_PROXY": "http://a"}, "http://a", None),
        ({"https_proxy": "http://a"}, "http://a", "http://a"),
        ({"http_proxy": "http://a", "https_proxy": "http://b"}, "http://b", "http://b"),
        ({"ws_proxy": "http://a", "https_proxy": "http://b"}, "http://a", "http://b"),
        ({"wss_proxy": "http://a", "http_proxy": "http://b"}, "http://b", "http://a"),
        ({"socks_proxy": "http://a:1"}, "socks5h://a:1", "socks5h://a:1"),
        ({"socks_proxy": "socks4://a:1"}, "socks4://a:1", "socks4://a:1"),
        ({"all_proxy": "http://a"}, None, None),
        ({"http_proxy": "http://a", "no_proxy": "example.com"}, None, None),
        ({"http_proxy": "http://a", "no_proxy": "example.com:81"}, "http://a", None),
        ({"http_proxy": "http://a", "no_proxy": "*"}, None, None),
        ({"http_proxy": "http://a", "no_proxy": ".org"}, "http://a", None),
    ],
)
def test_environment_names_the_proxy(environment, variables, ws, wss):
    for name, value in variables.items():
        environment(name, value)
    for uri, want in (("ws://example.com/", ws), ("wss://example.com/", wss)):
        assert get_proxy(parse_uri(uri)) == want
        assert websockets.proxy.get_proxy(websockets.uri.parse_uri(uri)) == want


# ---------------------------------------------------------------- the request


@pytest.mark.parametrize("address", ["http://proxy:3128", "http://me:secret@proxy"])
@pytest.mark.parametrize("uri", ["ws://a/b?c", "ws://a:81/", "wss://a/", "ws://[::1]/"])
@pytest.mark.parametrize("agent", ["x", None])
def test_request_is_that_of_websockets(address, uri, agent):
    theirs = websockets.proxy.prepare_connect_request(
        websockets.proxy.parse_proxy(address), websockets.uri.parse_uri(uri), agent
    )
    assert connect_request(parse_proxy(address), parse_uri(uri), agent) == theirs


def test_request_asks_for_a_tunnel_with_credentials():
    proxy = Proxy("http", "localhost", 80, "Aladdin", "open sesame")
    assert connect_request(proxy, URI, "x") == (
        b"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x\r\n"
        b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("uri", "agent"),
    [
        (WebSocketURI(False, "a\r\nX: y", 80, "/", ""), None),
        (WebSocketURI(False, "a b", 80, "/", ""), None),
        (URI, "a\r\nX: y"),
    ],
)
def test_what_cannot_stand_in_a_request_is_refused(uri, agent):
    with pytest.raises(ValueError):
        connect_request(PROXY, uri, agent)


# ---------------------------------------------------------------- the tunnel


class Wire:
    """A loop and a socket in one: what is to be received, at most `most` bytes at a time."""

    def __init__(self, data, most=100):
        self.data = data
        self.most = most
        self.sent = b""

    async def sock_sendall(self, sock, data):
        assert sock is self
        self.sent += data

    async def sock_recv(self, sock, count):
        assert sock is self
        assert count > 0
        taken = self.data[: min(count, self.most)]
        self.data = self.data[len(taken) :]
        return taken


def through(data, most=100):
    wire = Wire(data, most)
    try:
        asyncio.run(tunnel(wire, wire, PROXY, URI))
    finally:
        assert wire.sent == connect_request(PROXY, URI)
    return wire.data


@pytest.fixture(autouse=True)
def no_loop(monkeypatch):
    """Run a coroutine that waits for nothing, without a loop and its sockets."""

    def run(coroutine):
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise AssertionError("it waits")

    monkeypatch.setattr(asyncio, "run", run)


@pytest.mark.parametrize("most", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\nVia: x\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204 \r\nX: a\r\nYY: b\r\nZZZ: c\r\nAAAA: d\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
@pytest.mark.parametrize("rest", [b"", b"\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n"])
def test_nothing_behind_the_head_is_read(head, rest, most):
    assert through(head + rest, most) == rest


@pytest.mark.parametrize("status", [301, 403, 407, 502])
def test_refusal_is_told_with_the_response(status):
    with pytest.raises(InvalidProxyStatus, match=f"status {status}, allowed are 200 to 299") as caught:
        through(f"HTTP/1.1 {status} x\r\nProxy-Authenticate: Basic\r\n\r\nno".encode())
    assert caught.value.response.headers["Proxy-Authenticate"] == "Basic"
    assert caught.value.response.body == b""
    assert isinstance(caught.value, ProxyError)


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\nX", b"HTTP/2.0 200 OK\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"a" * 9000],
)  # fmt: skip
def test_what_is_no_response_is_refused(data):
    with pytest.raises(InvalidProxyMessage, match="the proxy's answer is not valid: "):
        through(data)


def test_end_is_told_as_such():
    with pytest.raises(InvalidProxyMessage) as caught:
        through(b"HTTP/1.1 200 OK\r\n")
    assert isinstance(caught.value.__cause__.__cause__, EOFError)
