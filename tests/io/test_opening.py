"""The opening handshake over real sockets: requests however they come, hooks, and peers that leave."""

import asyncio
import contextlib
import os
import pathlib
import re
import runpy
import socket
import struct
import time

import pytest
import websockets
from peers import HANDSHAKE, Echo, half_close, masked, on_reactor, port_of, raw, until

import fastws

ROWS = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "core" / "handshake_rows.py"))
REJECTED, ACCEPTED, ACCEPT = ROWS["REJECTED"], ROWS["ACCEPTED"], ROWS["ACCEPT"]
PAGE = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
SINGLE = 400  # bytes of a request that are sent one at a time; what is behind them comes in larger pieces


def uri_of(server):
    return f"ws://127.0.0.1:{port_of(server)}"


def parsed(answer):
    """Split a response into status, fields and body; each field occurs once."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    assert blank
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 ")
    fields = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in fields}
    assert len(headers) == len(fields)
    del headers["date"]
    return int(first[9:12]), headers, body


def pieces_of(data):
    return [data[i : i + 1] for i in range(min(len(data), SINGLE))] + [
        data[i : i + 997] for i in range(SINGLE, len(data), 997)
    ]


async def send_in(pieces, writer):
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        writer.write(piece)
        # Two turns: in the second the server, in the same loop, has read this piece alone.
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def ask(server, data):
    """Send `data` and return all that is answered, up to the server's end of the connection."""
    async with raw(server, data) as (reader, _):
        return await reader.read()


def accepted(server):
    """Count the connections that the server holds, those in their opening handshake too."""
    return len(server._carrier.descriptors_of(server))


def reset(writer):
    """End this connection with a RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# ---------------------------------------------------------------- every row, over a socket


@pytest.mark.without_tls("they are many, and test_raising has some of them")
@pytest.mark.parametrize(("data", "status", "headers"), REJECTED.values(), ids=REJECTED)
def test_bad_request_is_answered_alike_in_one_piece_and_byte_by_byte(run, data, status, headers):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server:
            whole = parsed(await ask(server, data))
            async with raw(server, b"") as (reader, writer):
                await send_in(pieces_of(data), writer)
                # The whole request is taken, answered or not: nothing resets the connection.
                writer.write_eof()
                assert parsed(await reader.read()) == whole
        got_status, got, body = whole
        assert got_status == status
        assert {name: got[name.lower()] for name in headers} == headers
        assert "close" in got["connection"].split(", ")
        if data.startswith(b"HEAD"):
            assert body == b""
        else:
            assert len(body) == int(got["content-length"]) > 0

    run(main)


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_good_request_opens_alike_in_one_piece_and_byte_by_byte(run, data):
    async def opens(server, pieces):
        async with raw(server, b"") as (reader, writer):
            await send_in([*pieces, masked(0x81, b"hi"), masked(0x88, b"")], writer)
            status, headers, rest = parsed(await reader.read())
            assert (status, headers["sec-websocket-accept"]) == (101, ACCEPT)
            assert rest == b"\x81\x02hi\x88\x00"

    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server:
            await opens(server, [data])
            await opens(server, pieces_of(data))

    run(main)


@pytest.mark.parametrize("row", ["H23-endless", "H24-one-over"])
def test_h26_a_large_request_one_byte_at_a_time_is_answered_as_in_one_piece(run, row):
    data, status, _ = REJECTED[row]
    data = data[:9000]

    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server, raw(server, b"") as (reader, writer):
            await send_in([data[i : i + 1] for i in range(len(data))], writer)
            assert parsed(await reader.read())[0] == status

    run(main)


def test_h48_a_second_request_behind_one_that_is_refused_is_not_answered(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server:
            assert (await ask(server, PAGE + PAGE + HANDSHAKE)).count(b"HTTP/1.1 ") == 1

    run(main)


# ---------------------------------------------------------------- peers that are slow or leave


def test_h43_a_byte_now_and_then_does_not_put_off_the_deadline(run):
    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, open_timeout=0.2) as server,
            raw(server, b"") as (reader, writer),
        ):
            ended = asyncio.ensure_future(reader.read())
            begun = time.monotonic()
            sent = 0
            with contextlib.suppress(OSError):  # what comes after the drop is answered by a RST
                while not ended.done() and sent < len(HANDSHAKE) - 1:
                    writer.write(HANDSHAKE[sent : sent + 1])
                    sent += 1
                    await asyncio.wait([ended], timeout=0.02)
                with contextlib.suppress(ConnectionResetError):
                    assert await ended == b""
            # At one byte in 0.02 s the request takes more than 3 s.
            assert 0.19 < time.monotonic() - begun < 2
            assert sent < len(HANDSHAKE) - 1

    run(main)


def test_h44_a_peer_that_sends_nothing_is_dropped_in_silence_at_the_deadline(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, open_timeout=0.1) as server:
            begun = time.monotonic()
            async with raw(server, b"") as (reader, _):
                assert await reader.read() == b""
                assert 0.09 < time.monotonic() - begun < 2
                assert accepted(server) == 0

    run(main)


def test_h43_the_deadline_holds_for_a_hook_too(run):
    cancelled = []

    async def process_request(ws, request):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(request.path)
            raise

    async def main():
        async with fastws.serve(
            Echo, "127.0.0.1", 0, open_timeout=0.1, process_request=process_request
        ) as server:
            assert await ask(server, PAGE) == b""
            await until(lambda: cancelled == ["/page"])

    run(main)


def test_h43_an_open_connection_outlives_the_deadline_of_its_opening(run):
    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, open_timeout=0.1) as server,
            websockets.connect(uri_of(server)) as client,
            raw(server, b"") as (reader, _),
        ):
            # This one came later, so that its deadline is the later one.
            assert await reader.read() == b""
            await client.send("still here")
            assert await client.recv() == "still here"

    run(main)


@pytest.mark.parametrize("sent", [0, 1, 40, len(HANDSHAKE) - 1])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_h45_a_peer_that_leaves_in_mid_request_leaves_nothing_behind(run, sent, how):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, max_connections=1, max_opening=1) as server:
            for _ in range(5):
                async with raw(server, HANDSHAKE[:sent]) as (reader, writer):
                    await until(lambda: accepted(server) == 1)
                    if how == "fin":
                        half_close(writer)
                        assert await reader.read() == b""
                    else:
                        reset(writer)
                await until(lambda: accepted(server) == 0)
            # The only place is free again.
            async with websockets.connect(uri_of(server)) as client:
                await client.send("x")
                assert await client.recv() == "x"

    run(main)


def test_h46_a_reset_while_a_hook_waits_cancels_it_and_nothing_else(run, caplog):
    events = []

    async def process_request(ws, request):
        if request.path != "/page":
            return
        events.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, process_request=process_request) as server,
            websockets.connect(uri_of(server)) as other,
        ):
            async with raw(server, PAGE) as (_, writer):
                await until(lambda: events == ["begun"])
                reset(writer)
            await until(lambda: events == ["begun", "cancelled"] and accepted(server) == 1)
            await other.send("x")
            assert await other.recv() == "x"
            async with websockets.connect(uri_of(server)) as later:
                await later.send("y")
                assert await later.recv() == "y"

    run(main)
    assert [r for r in caplog.records if r.name == "fastws.server" and r.levelname != "DEBUG"] == []


def test_h46_a_hook_that_fails_in_its_cancellation_disturbs_nobody(run):
    begun, ended = [], []

    async def process_request(ws, request):
        begun.append(ws)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(ws)
            raise ZeroDivisionError

    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, process_request=process_request) as server:
            async with raw(server, PAGE) as (_, writer):
                await until(lambda: begun)
                reset(writer)
            await until(lambda: ended and accepted(server) == 0)

    run(main)


def test_a_server_that_closes_cancels_hooks_and_answers_503(run):
    begun = []

    async def process_request(ws, request):
        begun.append(ws)
        await asyncio.Event().wait()

    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, process_request=process_request) as server:
            hooked = asyncio.ensure_future(ask(server, HANDSHAKE))
            partial = asyncio.ensure_future(ask(server, HANDSHAKE[:30]))
            await until(lambda: begun and accepted(server) == 2)
            server.close()
            assert [parsed(await one)[0] for one in (hooked, partial)] == [503, 503]

    run(main)


# ---------------------------------------------------------------- bounds


@pytest.mark.without_tls("there they are closed without an answer")
def test_opening_handshakes_over_max_opening_get_503_and_open_connections_do_not_count(run):
    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, max_opening=2) as server,
            contextlib.AsyncExitStack() as stack,
        ):
            clients = [await stack.enter_async_context(websockets.connect(uri_of(server))) for _ in range(3)]
            waiting = [await stack.enter_async_context(raw(server, HANDSHAKE[:30])) for _ in range(2)]
            await until(lambda: accepted(server) == 5)
            status, headers, _ = parsed(await ask(server, HANDSHAKE))
            assert (status, int(headers["retry-after"]) > 0) == (503, True)
            # One of those that waited goes on, which makes room for another.
            reader, writer = waiting[0]
            writer.write(HANDSHAKE[30:])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            clients.append(await stack.enter_async_context(websockets.connect(uri_of(server))))
            for client in clients:
                await client.send("x")
                assert await client.recv() == "x"

    run(main)


@on_reactor
def test_r30_a_burst_of_opening_handshakes_leaves_open_connections_their_turns(run):
    begun = []
    heard = []

    class Handler(fastws.Handler):
        def on_message(self, ws, message):
            heard.append(len(begun))

    def slow(ws, request):
        if request.path == "/burst":
            begun.append(ws)
            time.sleep(0.003)  # more than a turn's share
            if len(begun) == 1:
                os.write(early, masked(0x81, b"x"))

    async def main():
        nonlocal early
        async with (
            fastws.serve(Handler, "127.0.0.1", 0, process_request=slow) as server,
            raw(server) as (reader, writer),
        ):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            early = writer.get_extra_info("socket").fileno()
            with contextlib.ExitStack() as stack:
                for _ in range(50):
                    sock = socket.create_connection(("127.0.0.1", port_of(server)))
                    stack.enter_context(sock).sendall(HANDSHAKE.replace(b"GET / ", b"GET /burst "))
                await until(lambda: len(server.connections) == 51 and heard)
            assert len(begun) == 50
            assert heard[0] < 10

    early = None
    run(main)


@on_reactor
def test_what_waits_for_its_turn_while_a_connection_opens_comes_behind_what_came_before(run):
    got = [[] for _ in range(20)]

    async def main():
        decided = asyncio.Event()

        async def handler(ws):
            if ws.request.path != "/burst":
                async for message in ws:
                    got[int(ws.request.path[1:])].append(int(message))
                    await asyncio.sleep(0.0005)

        async def decide():
            await decided.wait()

        def hook(ws, request):
            return time.sleep(0.003) if request.path == "/burst" else decide()

        def send(sockets, data):
            for sock in sockets:
                sock.sendall(data)

        async with fastws.serve(handler, "127.0.0.1", 0, process_request=hook, max_queue=(1, 0)) as server:
            with contextlib.ExitStack() as stack:
                sockets = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server))))
                    for _ in range(60)
                ]
                deciding, burst = sockets[:20], sockets[20:]
                for i, sock in enumerate(deciding):
                    sock.sendall(HANDSHAKE.replace(b"GET / ", b"GET /%d " % i))
                await until(lambda: accepted(server) == 60 and len(asyncio.all_tasks()) > 20)
                send(burst, HANDSHAKE.replace(b"GET / ", b"GET /burst "))
                send(deciding, b"".join(masked(0x81, b"%d" % i) for i in range(100)))
                await asyncio.sleep(0)
                decided.set()
                await until(lambda: all(got))
                send(deciding, b"".join(masked(0x81, b"%d" % i) for i in range(100, 200)))
                await until(lambda: all(len(one) == 200 for one in got))

    run(main)
    assert got == [list(range(200))] * 20


@pytest.mark.without_tls("there they are closed without an answer")
def test_r9_those_turned_away_take_no_place(run):
    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, max_opening=1, close_timeout=5) as server,
            contextlib.AsyncExitStack() as stack,
        ):
            _, first = await stack.enter_async_context(raw(server, b""))
            await until(lambda: accepted(server) == 1)
            # They do not close, so that the server lingers.
            for _ in range(5):
                reader, _ = await stack.enter_async_context(raw(server))
                assert parsed(await reader.read())[0] == 503
            assert accepted(server) == 6
            first.close()
            await until(lambda: accepted(server) == 5)
            async with raw(server) as (reader, _):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

    run(main)


# ---------------------------------------------------------------- policy, with a real client


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (None, "http://any", 101),
        (["http://a"], "http://a", 101),
        (["http://a"], "http://b", 403),
        (["http://a"], None, 403),
        (["http://a", None], None, 101),
        ([re.compile(r"https://\w+\.example")], "https://x.example", 101),
        ([re.compile(r"https://\w+\.example")], "https://x.example.evil", 403),
    ],
)
def test_h36_only_allowed_origins_may_connect(run, origins, origin, status):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, origins=origins) as server:
            if status == 101:
                async with websockets.connect(uri_of(server), origin=origin) as client:
                    await client.send("x")
                    assert await client.recv() == "x"
            else:
                with pytest.raises(websockets.InvalidStatus) as caught:
                    await websockets.connect(uri_of(server), origin=origin)
                assert caught.value.response.status_code == status

    run(main)


def test_the_subprotocol_agreed_on_is_known_to_both(run):
    ours = []

    async def main():
        async with fastws.serve(
            on_open=lambda ws: ours.append(ws.subprotocol),
            host="127.0.0.1",
            port=0,
            subprotocols=["v2", "v1"],
        ) as server:
            async with websockets.connect(uri_of(server), subprotocols=["v1", "v2"]) as client:
                assert client.subprotocol == "v2"
            async with websockets.connect(uri_of(server), subprotocols=["v0", "v1"]) as client:
                assert client.subprotocol == "v1"
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(uri_of(server), subprotocols=["v0"])
            assert caught.value.response.status_code == 400
        assert ours == ["v2", "v1"]

    run(main)


def test_h35_a_choice_that_was_not_offered_is_500_and_is_logged(run, caplog):
    async def main():
        async with fastws.serve(
            Echo, "127.0.0.1", 0, select_subprotocol=lambda ws, offered: "other"
        ) as server:
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(uri_of(server), subprotocols=["chat"])
            assert caught.value.response.status_code == 500
            assert b"other" not in caught.value.response.body

    run(main)
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "'other'" in str(record.exc_info[1])
