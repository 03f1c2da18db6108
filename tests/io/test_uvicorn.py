"""ASGI's rules for WebSockets, with `fastws.uvicorn` and, where they agree, uvicorn's own implementation."""

import asyncio
import json

import pytest
import websockets
from peers import HANDSHAKE, masked
from uvicorn_process import bounded, connected

import fastws

pytest.importorskip("uvicorn")


async def refused(server, path, name="", **options):
    """Return the response to a client that is not let in."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connected(server, path, name, **options):
            pass
    return caught.value.response


async def answer(server, path, name="", data=HANDSHAKE):
    """Return status, fields and body of what a request gets."""
    async with server.raw(path, name, data) as (reader, _):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), [line.split(": ", 1) for line in lines], body


def values(fields, name):
    return [value for field, value in fields if field.lower() == name]


# ---------------------------------------------------------------- scope and opening handshake


def test_scope_has_every_key_and_what_was_sent(server, name):
    async def main():
        headers = [("X-Case", "Value"), ("Cookie", "a=1"), ("X-Case", "again")]
        path = "/a%20path/%C3%A9"
        async with connected(
            server, path, name, additional_headers=headers, subprotocols=["one", "two"], compression=None
        ) as client:
            scope = json.loads(await client.recv())
            local = client.local_address
        fields = scope.pop("headers")
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": ["127.0.0.1", server.port],
            "client": list(local),
            "root_path": "",
            "path": "/a path/é",
            "raw_path": path,
            "query_string": name,
            "subprotocols": ["one", "two"],
            "state": {"shared": "from lifespan", "own": True},
            "extensions": {"websocket.http.response": {}},
        }
        assert [field for field in fields if field[0] in ("x-case", "cookie")] == [
            ["x-case", "Value"],
            ["cookie", "a=1"],
            ["x-case", "again"],
        ]
        assert all(field == field.lower() for field, _ in fields)

    bounded(main())


def test_state_is_a_copy_for_each_connection(server, name):
    async def main():
        for _ in range(2):
            async with connected(server, "/scope", name) as client:
                # What the application adds it adds to its own.
                assert json.loads(await client.recv())["state"] == {"shared": "from lifespan", "own": True}
        async with connected(server, "/echo", name):
            pass

    bounded(main())


def test_accept_has_subprotocol_headers_and_the_defaults(server):
    async def main():
        async with connected(server, "/choose", subprotocols=["one", "two"]) as client:
            assert client.subprotocol == "two"
            headers = client.response.headers
            assert headers["x-one"] == "1"
            assert len(headers.get_all("set-cookie")) == 2
            assert headers["server"] == "uvicorn"
            assert headers["x-default"] == "yes"
            assert len(headers.get_all("date")) == 1

    bounded(main())


def test_accept_and_refusals_are_logged_as_uvicorn_does(server, name):
    async def main():
        async with connected(server, "/echo", name) as client:
            address = "{}:{}".format(*client.local_address)
        await refused(server, "/refuse", name)
        await refused(server, "/deny", name)
        await server.wait_for(rf'INFO: +{address} - "WebSocket /echo\?{name}" \[accepted\]\n')
        await server.wait_for(rf'INFO: +127.0.0.1:\d+ - "WebSocket /refuse\?{name}" 403\n')
        await server.wait_for(rf'INFO: +127.0.0.1:\d+ - "WebSocket /deny\?{name}" 401\n')

    bounded(main())


def test_close_before_accept_is_403(server, name):
    async def main():
        status, fields, body = await answer(server, "/refuse", name)
        assert (status, body) == (403, b"")
        assert values(fields, "connection") == ["close"]
        noted = await server.note(name)
        assert (noted["end"]["type"], noted["end"]["code"]) == ("websocket.disconnect", 1006)
        assert noted["error"][0] in ("RuntimeError", "ClientDisconnected")

    bounded(main())


def test_denial_is_the_applications_response(server, name):
    async def main():
        status, fields, body = await answer(server, "/deny", name)
        assert (status, body) == (401, b"not you")
        assert values(fields, "x-why") == ["because"]
        assert values(fields, "content-type") == ["text/html"]
        assert values(fields, "content-length") == ["7"]
        noted = await server.note(name)
        assert noted["end"]["code"] == 1006
        assert noted["error"][::2] == [
            "RuntimeError",
            "Expected ASGI message 'websocket.http.response.body' but got 'websocket.accept'.",
        ]

    bounded(main())


@pytest.mark.parametrize("path", ["/deny", "/refuse", "/raise_before"])
def test_rejections_have_the_default_headers_once(ours, path, name):
    async def main():
        _, fields, _ = await answer(ours, path, name)
        for field in ("date", "server", "x-default", "connection"):
            assert len(values(fields, field)) == 1
        assert values(fields, "server") == ["uvicorn"]

    bounded(main())


@pytest.mark.parametrize("path", ["/deny_with_invalid", "/accept_with_invalid"])
def test_headers_that_cannot_be_sent_are_500(ours, name, path):
    async def main():
        status, fields, _ = await answer(ours, path, name)
        assert status == 500
        assert values(fields, "b") == []

    bounded(main())


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/raise_before", r"Exception in ASGI application\n(.*\n)*?ValueError: the application's own"),
        ("/return_before", "ASGI callable returned without completing handshake."),
    ],
)
def test_an_application_that_fails_before_accept_gives_500(server, path, logged):
    async def main():
        status, fields, body = await answer(server, path)
        assert (status, body.strip()) == (500, b"Internal Server Error")
        assert values(fields, "content-type") == ["text/plain; charset=utf-8"]
        await server.wait_for(logged)

    bounded(main())


def without(field):
    return b"\r\n".join(line for line in HANDSHAKE.split(b"\r\n") if not line.startswith(field))


@pytest.mark.parametrize(
    ("data", "status", "field"),
    [
        (without(b"Sec-WebSocket-Key"), 400, None),
        (HANDSHAKE.replace(b"dGhl", b""), 400, None),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 12"), 426, ["sec-websocket-version", "13"]),
        (HANDSHAKE.replace(b"GET", b"POST"), 405, ["allow", "GET"]),
        (HANDSHAKE.replace(b"13\r\n", b"13\r\nContent-Length: 5\r\n"), 400, None),
    ],
    ids=["no-key", "short-key", "version-12", "post", "with-a-body"],
)
def test_a_request_that_is_not_valid_never_reaches_the_application(ours, name, data, status, field):
    async def main():
        got, fields, _ = await answer(ours, "/wait_before_accept", name, data)
        assert got == status
        assert values(fields, "x-default") == ["yes"]
        if field is not None:
            assert values(fields, field[0]) == [field[1]]
        assert ours.notes(name) == []

    bounded(main())


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize("message", ["", "text", "é一😀" * 5000, b"", b"\xff\x00", b"y" * 3_000_000], ids=len)
def test_messages_keep_their_kind_and_content(server, message):
    async def main():
        async with connected(server, "/echo") as client:
            await client.send(message)
            got = await client.recv()
            assert (type(got), got) == (type(message), message)
            await client.send([message[:3], message[3:]])
            assert await client.recv() == message

    bounded(main())


def test_many_messages_come_once_and_in_order(server):
    async def main():
        async with connected(server, "/echo") as client:
            sending = asyncio.ensure_future(send_all(client))
            assert [await client.recv() for _ in range(2000)] == [str(i) for i in range(2000)]
            await sending

    async def send_all(client):
        for i in range(2000):
            await client.send(str(i))

    bounded(main())


def test_our_own_client_is_served_too(ours, name):
    async def main():
        async with fastws.connect(ours.uri("/echo", name), compression="deflate") as ws:
            assert ws.extensions
            for message in "x" * 5000, b"\xff" * 5000:
                await ws.send(message)
                assert await ws.recv() == message
        assert (await ours.note(name))["end"] == {"type": "websocket.disconnect", "code": 1000, "reason": ""}

    bounded(main())


def test_receive_and_send_are_coroutines_that_tasks_take_and_cancel(server):
    async def main():
        async with connected(server, "/cancel_receive") as client:
            assert await client.recv() == "True"
            await client.send("not lost")
            assert await client.recv() == "not lost"

    bounded(main())


def test_both_keys_may_be_there_when_one_is_none(ours, name):
    async def main():
        async with connected(ours, "/send_bad_data", name) as client:
            assert [await client.recv(), await client.recv()] == ["one", b"two"]
        neither, surrogate = (await ours.note(name))["errors"]
        assert neither == [
            "RuntimeError",
            False,
            "ASGI message 'websocket.send' has neither 'bytes' nor 'text'.",
        ]
        assert surrogate[0] == "UnicodeEncodeError"

    bounded(main())


def test_frames_that_come_before_the_accept_are_delivered_after_it(ours, name):
    async def main():
        async with ours.raw("/wait_then_accept", name) as (reader, writer):
            await ours.note(name)
            sent = b"".join(masked(0x82, b"%04d" % i) for i in range(10000))
            writer.write(sent)
            await ours.get("/go", name)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            for i in range(10000):
                assert await reader.readexactly(6) == b"\x82\x04%04d" % i

    bounded(main())
