"""Redirects, and what `fastws.connect` takes along; RFC 9110 15.4."""

import socket

import pytest
import websockets
from connecting import MARKS, redirecting, serve, uri_of
from peers import echo, port_of

from fastws.client import connect, unix_connect
from fastws.exceptions import InvalidStatus, InvalidURI, SecurityError

pytestmark = MARKS


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["/there", "there", "../there", "ws://127.0.0.1:{port}/there"])
def test_redirect_is_followed(run, status, where):
    async def main():
        process_request = redirecting(lambda: where.format(port=port_of(server)), status)
        async with serve(process_request=process_request) as server:
            headers = {"Authorization": "a", "Cookie": "b", "X": "c"}
            async with connect(uri_of(server, "/here"), additional_headers=headers) as ws:
                await ws.send("a")
                assert await ws.recv() == "a"
        assert [request.path for request in process_request.seen] == ["/here", "/there"]
        first, second = (request.headers for request in process_request.seen)
        assert first["Sec-WebSocket-Key"] != second["Sec-WebSocket-Key"]
        for name, value in headers.items():
            assert first[name] == second[name] == value

    run(main)


def test_relative_redirect_keeps_the_user_information(run):
    async def main():
        process_request = redirecting("/there")
        async with (
            serve(process_request=process_request) as server,
            connect(uri_of(server, "/here", "me:secret@")),
        ):
            pass
        assert [r.headers["Authorization"] for r in process_request.seen] == ["Basic bWU6c2VjcmV0"] * 2

    run(main)


def test_redirect_to_another_origin_takes_no_credentials_along(run):
    async def main():
        there = redirecting("")
        async with serve(process_request=there) as other:
            here = redirecting(uri_of(other, "/there"))
            async with serve(process_request=here) as server:
                headers = [
                    ("Authorization", "a"), ("cookie", "b"), ("Proxy-Authorization", "c"), ("X", "d"),
                ]  # fmt: skip
                async with connect(uri_of(server), additional_headers=headers) as ws:
                    await ws.send("a")
                    assert await ws.recv() == "a"
        (request,) = there.seen
        assert {"Authorization", "Cookie", "Proxy-Authorization"}.isdisjoint(request.headers)
        assert not {"authorization", "cookie", "proxy-authorization"} & {n.lower() for n in request.headers}
        assert request.headers["X"] == "d"
        assert here.seen[0].headers["Authorization"] == "a"

    run(main)


def test_user_information_does_not_go_to_another_origin(run):
    async def main():
        there = redirecting("")
        async with serve(process_request=there) as other:
            here = redirecting(uri_of(other, "/there"))
            async with serve(process_request=here) as server, connect(uri_of(server, "/", "me:secret@")):
                pass
        assert "Authorization" in here.seen[0].headers
        assert "Authorization" not in there.seen[0].headers

    run(main)


def test_redirects_are_followed_ten_times_less_one(run, monkeypatch):
    async def main():
        steps = []

        def process_request(ws, request):
            steps.append(request.path)
            response = ws.respond(302, "")
            response.headers["Location"] = f"/{len(steps)}"
            return response

        async with serve(process_request=process_request) as server:
            with pytest.raises(SecurityError, match="10 answers"):
                await connect(uri_of(server))
        assert steps == ["/", *(f"/{i}" for i in range(1, 10))]

    run(main)


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("http://127.0.0.1/", InvalidURI),
        ("/#fragment", InvalidURI),
    ],
)
def test_redirect_that_cannot_be_followed_is_told(run, where, kind):
    async def main():
        async with serve(process_request=redirecting(where)) as server:
            with pytest.raises(kind) as caught:
                await connect(uri_of(server))
        assert isinstance(caught.value.__cause__, InvalidStatus)

    run(main)


@pytest.mark.parametrize(("status", "where"), [(304, "/there"), (302, None), (200, "/there")])
def test_what_is_no_redirect_is_not_followed(run, status, where):
    def process_request(ws, request):
        response = ws.respond(status, "")
        if where is not None:
            response.headers["Location"] = where
        return response

    async def main():
        async with serve(process_request=process_request) as server:
            with pytest.raises(InvalidStatus, match=str(status)):
                await connect(uri_of(server))

    run(main)


def test_redirect_is_not_followed_where_the_place_was_given(run, tmp_path):
    async def main():
        elsewhere = redirecting("ws://example.com/there")
        async with (
            serve(process_request=elsewhere) as server,
            websockets.unix_serve(echo, tmp_path / "socket", process_request=elsewhere),
        ):
            sock = socket.create_connection(("127.0.0.1", port_of(server)))
            with pytest.raises(ValueError, match="the socket that was given"):
                await connect("ws://localhost/", sock=sock)
            with pytest.raises(ValueError, match="host or port is given"):
                await connect("ws://localhost/", host="127.0.0.1", port=port_of(server))
            with pytest.raises(ValueError, match="Unix socket"):
                await unix_connect(tmp_path / "socket")

    run(main)


def test_redirect_within_an_origin_is_followed_where_the_place_was_given(run, tmp_path):
    async def main():
        near = redirecting("/there")
        async with (
            serve(process_request=near) as server,
            websockets.unix_serve(echo, tmp_path / "socket", process_request=near),
            connect("ws://localhost/", host="127.0.0.1", port=port_of(server)),
            unix_connect(tmp_path / "socket"),
        ):
            assert len(near.seen) == 4

    run(main)
