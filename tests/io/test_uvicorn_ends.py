"""How ASGI connections end, and who has to wait: `fastws.uvicorn` and uvicorn's own implementation."""

import asyncio
import contextlib
import socket

import pytest
import websockets
from peers import HANDSHAKE, masked, until
from uvicorn_process import bounded, connected

pytest.importorskip("uvicorn")

# ---------------------------------------------------------------- events out of turn


def test_events_out_of_turn_raise_runtime_errors_that_say_so(server, name):
    async def main():
        async with connected(server, "/send_wrong", name) as client:
            assert await client.recv() == "still open"
        first = "Expected ASGI message 'websocket.accept', 'websocket.close' or "
        first += "'websocket.http.response.start' but got '{}'."
        later = "Expected ASGI message 'websocket.send' or 'websocket.close', but got '{}'."
        assert (await server.note(name))["errors"] == [
            ["RuntimeError", False, first.format("websocket.send")],
            ["RuntimeError", False, first.format("other")],
            ["RuntimeError", False, "Invalid HTTP status code '999' in response."],
            ["RuntimeError", False, later.format("websocket.accept")],
            ["RuntimeError", False, later.format("websocket.http.response.start")],
        ]

    bounded(main())


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (4321, "é")])
def test_disconnect_has_the_peers_code_and_reason(server, name, code, reason):
    async def main():
        async with connected(server, "/echo", name) as client:
            await client.close(code, reason)
            assert client.close_code == code
        assert (await server.note(name))["end"] == {
            "type": "websocket.disconnect",
            "code": code,
            "reason": reason,
        }

    bounded(main())


def test_disconnect_is_1005_for_a_close_without_a_code(server, name):
    async def main():
        async with server.opened("/echo", name) as (reader, writer):
            writer.write(masked(0x88, b""))
            assert await reader.readexactly(2) == b"\x88\x00"
            assert (await server.note(name))["end"]["code"] == 1005

    bounded(main())


def test_disconnect_is_told_though_the_peer_does_not_leave(server, name):
    async def main():
        async with server.opened("/echo", name) as (reader, writer):
            writer.write(masked(0x88, b"\x03\xe8"))
            await server.note(name)
            assert await reader.readexactly(4) == b"\x88\x02\x03\xe8"

    bounded(main())


@pytest.mark.parametrize("half", [True, False], ids=["shut-down", "closed"])
def test_disconnect_is_1006_when_the_peer_vanishes(ours, name, half):
    async def main():
        async with ours.opened("/echo", name) as (reader, writer):
            if half:
                writer.write_eof()
                assert await reader.read() == b""
            else:
                writer.close()
            assert (await ours.note(name))["end"] == {
                "type": "websocket.disconnect",
                "code": 1006,
                "reason": "",
            }

    bounded(main())


def test_disconnect_is_1006_when_the_peer_leaves_before_the_accept(server, name):
    async def main():
        async with server.raw("/wait_before_accept", name):
            await server.note(name)
        await until(lambda: len(server.notes(name)) == 2)
        noted = server.notes(name)[1]
        assert noted["end"]["code"] == 1006
        assert noted["error"][:2] == ["ClientDisconnected", True]

    bounded(main())


@pytest.mark.parametrize("leaves", ["closes", "aborts"])
def test_send_after_the_end_raises_an_oserror(server, name, leaves):
    async def main():
        async with server.opened("/send_late", name) as (reader, writer):
            if leaves == "closes":
                writer.write(masked(0x88, b"\x03\xe8"))
                await reader.read()
            else:
                writer.transport.abort()
        await server.get("/go", name)
        noted = await server.note(name)
        assert noted["error"][:2] == ["ClientDisconnected", True]

    bounded(main())


def test_receive_gives_the_end_however_often_it_is_asked(ours, name):
    async def main():
        async with connected(ours, "/receive_again", name) as client:
            await client.close(4000, "so")
        end = {"type": "websocket.disconnect", "code": 4000, "reason": "so"}
        assert (await ours.note(name))["ends"] == [end] * 3

    bounded(main())


def test_close_sends_code_and_reason_and_ends_the_events(server, name):
    async def main():
        async with connected(server, "/close", name) as client:
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (4001, "bye")
        noted = await server.note(name)
        assert noted["end"] == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
        assert noted["error"][::2] == [
            "RuntimeError",
            "Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.",
        ]

    bounded(main())


def test_a_code_that_must_not_be_sent_leaves_the_connection_open(ours, name):
    async def main():
        async with connected(ours, "/close_with_bad_code", name) as client:
            assert (await ours.note(name))["error"] is not None
            await client.send("x")
            await client.wait_closed()
            assert client.close_code == 1000

    bounded(main())


@pytest.mark.parametrize(
    ("path", "code", "logged"),
    [
        ("/raise_after", 1011, r"Exception in ASGI application\n(.*\n)*?ValueError: the application's own"),
        ("/return_after", 1000, ""),
        ("/return_value", 1000, "ASGI callable should return None, but returned '5'."),
    ],
)
def test_an_application_that_ends_after_accept_closes_the_connection(ours, path, code, logged):
    async def main():
        async with connected(ours, path) as client:
            with contextlib.suppress(websockets.ConnectionClosed):
                await client.send("x")
            await client.wait_closed()
            assert client.close_code == code
        await ours.wait_for(logged)

    bounded(main())


@pytest.mark.parametrize(
    ("frame", "code"),
    [(masked(0x83, b""), 1002), (masked(0x81, b"\xff"), 1007), (b"\x81\x00", 1002)],
    ids=["opcode", "utf-8", "unmasked"],
)
def test_a_violation_ends_the_connection_and_the_application_learns_why(ours, name, frame, code):
    async def main():
        async with ours.opened("/echo", name) as (reader, writer):
            writer.write(frame)
            close = await reader.read()
            assert close[0] == 0x88
            assert int.from_bytes(close[2:4], "big") == code
        assert (await ours.note(name))["end"]["code"] == code

    bounded(main())


# ---------------------------------------------------------------- backpressure


async def settled(count):
    """Wait until a number stays the same for a while; return it."""
    last, same = await count(), 0
    while same < 20:
        await asyncio.sleep(0.01)
        now = await count()
        last, same = now, same + 1 if now == last else 0
    return last


@contextlib.asynccontextmanager
async def narrow(server, path, name):
    """Connect a plain client with a small receive buffer, which reads only what it is told to."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    with sock:
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        await loop.sock_sendall(sock, HANDSHAKE.replace(b"GET / ", f"GET {path}?{name} ".encode()))
        yield sock


def test_send_waits_for_a_peer_that_does_not_read_and_goes_on_when_it_does(server, name):
    async def main():
        async with narrow(server, "/flood", name) as sock:
            await until_async(lambda: server.get("/count", name))
            sent = await settled(lambda: server.get("/count", name))
            # What the kernel takes, 64 KiB, and the message that waits.
            assert sent < 200
            reader, writer = await asyncio.open_connection(sock=sock.dup())
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(300):
                assert len(await reader.readexactly(10 + 65536)) == 65546
            writer.close()

    bounded(main())


async def until_async(ask):
    while not await ask():
        await asyncio.sleep(0.005)


def test_send_that_waits_ends_with_an_oserror_when_the_peer_leaves(server, name):
    async def main():
        async with narrow(server, "/flood_until_lost", name):
            await until_async(lambda: server.get("/count", name))
            await settled(lambda: server.get("/count", name))
            assert server.notes(name) == []
        assert (await server.note(name))["error"][:2] == ["ClientDisconnected", True]

    bounded(main())


def test_an_application_that_does_not_receive_stops_its_peer(server, name):
    async def main():
        async with server.opened("/listen_late", name) as (reader, writer):
            piece = b"\x82\xfe\xff\xff" + bytes(4 + 65535)
            sock = writer.get_extra_info("socket")
            taken = 0

            async def waiting():
                nonlocal taken
                while writer.transport.get_write_buffer_size() < 65536:
                    writer.write(piece)
                    taken += 1
                await asyncio.sleep(0)
                return taken

            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            # 32 messages of the queue, and what the kernel takes.
            total = await settled(waiting)
            assert total < 400
            await server.get("/go", name)
            writer.write(masked(0x81, b"end"))
            expected = str(taken * 65535).encode()
            assert await reader.readexactly(2 + len(expected)) == bytes([0x81, len(expected)]) + expected

    bounded(main())
