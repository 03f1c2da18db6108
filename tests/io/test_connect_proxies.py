"""`fastws.connect` through HTTP proxies, given and of the environment."""

import socket

import pytest
import websockets
from connecting import MARKS, closed_port, http_proxy, peer, redirecting, serve, uri_of
from peers import echo, port_of

from fastws.client import connect, process_exception, unix_connect
from fastws.client_handshake import USER_AGENT
from fastws.exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus

pytestmark = MARKS


@pytest.mark.parametrize("user", ["", "me:secret@"])
@pytest.mark.parametrize("from_environment", [False, True])
def test_proxy_is_gone_through(run, user, from_environment, monkeypatch):
    async def main():
        seen = []
        async with serve() as server, peer(http_proxy(seen=seen)) as through:
            address = f"http://{user}127.0.0.1:{port_of(through)}"
            if from_environment:
                monkeypatch.setenv("http_proxy", address)
            options = {} if from_environment else {"proxy": address}
            async with connect(uri_of(server), **options) as ws:
                await ws.send("a")
                assert await ws.recv() == "a"
            (head,) = seen
            target = f"127.0.0.1:{port_of(server)}"
            assert head.startswith(
                f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {USER_AGENT}\r\n"
            )
            assert ("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in head) == bool(user)

    run(main)


def test_environment_does_not_count_where_it_shall_not(run, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")

    async def main():
        async with serve() as server, websockets.unix_serve(echo, tmp_path / "socket"):
            with pytest.raises(OSError):
                await connect(uri_of(server))
            async with connect(uri_of(server), proxy=None), unix_connect(tmp_path / "socket"):
                pass
            async with connect("ws://example.com/", host="127.0.0.1", port=port_of(server)):
                pass
            sock = socket.create_connection(("127.0.0.1", port_of(server)))
            async with connect("ws://example.com/", sock=sock):
                pass
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            async with connect(uri_of(server)):
                pass

    run(main)


def test_socks_proxy_of_the_environment_is_refused(run, monkeypatch):
    monkeypatch.setenv("socks_proxy", "http://127.0.0.1:1080")

    async def main():
        with pytest.raises(InvalidProxy, match="socks5h"):
            await connect("ws://localhost/")

    run(main)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 407 x\r\nContent-Length: 2\r\n\r\nno", InvalidProxyStatus),
        (b"HTTP/1.1 502 x\r\n\r\n", InvalidProxyStatus),
        (b"SSH-2.0-OpenSSH\r\n", InvalidProxyMessage),
        (b"", InvalidProxyMessage),
    ],
)
def test_proxy_that_refuses_is_told(run, answer, kind):
    async def main():
        async with peer(http_proxy(answer)) as through:
            with pytest.raises(kind) as caught:
                await connect("ws://localhost/", proxy=f"http://127.0.0.1:{port_of(through)}")
            assert process_exception(caught.value) is caught.value

    run(main)


def test_redirect_goes_through_the_proxy_too(run):
    async def main():
        seen = []
        async with (
            serve(process_request=redirecting("/there")) as server,
            peer(http_proxy(seen=seen)) as through,
            connect(uri_of(server), proxy=f"http://127.0.0.1:{port_of(through)}"),
        ):
            assert len(seen) == 2

    run(main)
