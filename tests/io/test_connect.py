"""`fastws.connect` against servers of `websockets`, and against peers that answer as no server should."""

import asyncio
import base64
import contextlib
import socket

import pytest
import websockets
from connecting import MARKS, accept_by_hand, closed_port, peer, serve, silent, uri_of
from peers import echo, port_of, until

from fastws import dialling
from fastws.client import connect, unix_connect
from fastws.client_handshake import USER_AGENT
from fastws.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
)

pytestmark = MARKS

# ---------------------------------------------------------------- three ways to connect


@pytest.mark.parametrize("message", ["", "text", "é一😀" * 5000, b"", b"x" * 65536], ids=len)
def test_a_message_comes_back_as_what_it_was(run, message):
    async def main():
        async with serve(max_size=None) as server, connect(uri_of(server)) as ws:
            await ws.send(message)
            assert await ws.recv() == message

    run(main)


def test_connection_is_awaited_and_closed_by_hand(run):
    async def main():
        async with serve() as server:
            ws = await connect(uri_of(server))
            await ws.send("a")
            assert await ws.recv() == "a"
            await ws.close(4000, "enough")
            with pytest.raises(ConnectionClosed):
                await ws.recv()

    run(main)


def test_messages_come_until_the_server_closes(run):
    async def three(ws):
        for i in range(3):
            await ws.send(str(i))

    async def main():
        async with serve(three) as server, connect(uri_of(server)) as ws:
            assert [message async for message in ws] == ["0", "1", "2"]

    run(main)


@pytest.mark.parametrize(("fails", "code"), [(False, 1000), (True, 1011)])
def test_block_closes_with_what_it_came_to(run, fails, code):
    codes = []

    async def note(ws):
        await ws.wait_closed()
        codes.append(ws.close_code)

    async def main():
        async with serve(note) as server:
            with contextlib.suppress(ZeroDivisionError):
                async with connect(uri_of(server)):
                    if fails:
                        raise ZeroDivisionError
            await until(lambda: codes)
        assert codes == [code]

    run(main)


def test_one_connect_is_entered_once_at_a_time(run):
    async def main():
        async with serve() as server:
            again = connect(uri_of(server))
            async with again:
                with pytest.raises(RuntimeError, match="entered already"):
                    async with again:
                        pass
            async with again as ws:
                await ws.send("a")
                assert await ws.recv() == "a"

    run(main)


def test_frames_right_behind_the_response_are_delivered(run):
    async def accept(reader, writer):
        await accept_by_hand(reader, writer, behind=b"\x81\x02hi\x88\x02\x03\xe8")
        close = await reader.readexactly(8)
        assert close[0] == 0x88

    async def main():
        async with peer(accept) as server, connect(uri_of(server)) as ws:
            assert [message async for message in ws] == ["hi"]

    run(main)


# ---------------------------------------------------------------- the handshake


def test_server_gets_what_the_options_say(run):
    requests = []

    async def main():
        async with serve(
            process_request=lambda _, request: requests.append(request),
            subprotocols=["superchat"],
            origins=["http://o"],
        ) as server:
            options = {
                "origin": "http://o",
                "subprotocols": ["chat", "superchat"],
                "additional_headers": {"X": "x"},
            }
            async with connect(uri_of(server, "/a?b", "me:secret@"), **options) as ws:
                assert ws.subprotocol == "superchat"
                assert ws.request.path == "/a?b"
            (request,) = requests
            assert request.path == "/a?b"
            fields = dict(request.headers.raw_items())
            assert fields["Host"] == f"127.0.0.1:{port_of(server)}"
            assert fields["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
            assert (fields["Origin"], fields["X"], fields["User-Agent"]) == ("http://o", "x", USER_AGENT)

    run(main)


@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_refusal_is_told_with_the_response(run, status):
    async def main():
        async with serve(process_request=lambda ws, request: ws.respond(status, "No.\n")) as server:
            with pytest.raises(InvalidStatus, match=f"status {status}") as caught:
                await connect(uri_of(server))
        assert caught.value.response.status_code == status
        assert caught.value.response.body == b"No.\n"

    run(main)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", InvalidMessage),
        (b"HTTP/1.1 200 OK\r\nX", InvalidMessage),
        (b"SSH-2.0-OpenSSH\r\n", InvalidMessage),
        (b"HTTP/1.1 101 x\r\n\r\n", InvalidUpgrade),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", InvalidStatus),
    ],
)
def test_answer_that_is_none_is_told(run, answer, kind):
    async def main():
        async with peer(answer) as server:
            with pytest.raises(kind):
                await connect(uri_of(server))

    run(main)


def test_extension_that_was_not_offered_is_refused(run):
    async def accept(reader, writer):
        await accept_by_hand(reader, writer, more=b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
        await reader.read()

    async def main():
        async with peer(accept) as server:
            with pytest.raises(NegotiationError, match="permessage-deflate"):
                await connect(uri_of(server))

    run(main)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"uri": "http://a"}, InvalidURI),
        ({"compression": "gzip"}, ValueError),
        ({"text_as": "x"}, ValueError),
        ({"open_timeout": -1}, ValueError),
        ({"max_queue": 0}, ValueError),
        ({"subprotocols": "chat"}, TypeError),
        ({"subprotocols": ["a b"]}, ValueError),
        ({"additional_headers": {"X": "a\r\nb"}}, ValueError),
        ({"origin": "a\0"}, ValueError),
        ({"proxy": "socks5h://a"}, InvalidProxy),
        ({"proxy": False}, TypeError),
        ({"proxy": "http://a", "host": "b"}, ValueError),
        ({"proxy": "http://a", "unix": "b"}, ValueError),
        ({"host": "a", "unix": "b"}, ValueError),
        ({"ssl": True}, ValueError),
    ],
    ids=repr,
)
def test_bad_arguments_are_told_at_once(options, kind):
    with pytest.raises(kind):
        connect(**{"uri": "ws://localhost", **options})


# ---------------------------------------------------------------- where to


def test_unix_socket_is_connected_to(run, tmp_path):
    async def main():
        hosts = []
        path = tmp_path / "socket"

        def process_request(ws, request):
            hosts.append((request.headers["Host"], request.path))

        async with websockets.unix_serve(echo, path, process_request=process_request):
            for connecting in (
                unix_connect(path),
                unix_connect(str(path), "ws://example.com/a"),
                connect("ws://example.com:1/", unix=path),
            ):
                async with connecting as ws:
                    await ws.send("a")
                    assert await ws.recv() == "a"
        assert hosts == [("localhost", "/"), ("example.com", "/a"), ("example.com:1", "/")]

    run(main)


def test_host_and_port_say_only_where_to_connect(run):
    async def main():
        hosts = []
        async with serve(process_request=lambda _, request: hosts.append(request.headers["Host"])) as server:
            port = port_of(server)
            async with connect("ws://example.com/", host="127.0.0.1", port=port):
                pass
            async with connect(f"ws://example.com:{port}/", host="127.0.0.1"):
                pass
            async with connect("ws://127.0.0.1/", port=port):
                pass
            assert hosts == ["example.com", f"example.com:{port}", "127.0.0.1"]

    run(main)


def test_socket_that_is_connected_is_used_once(run):
    async def main():
        async with serve() as server:
            sock = socket.create_connection(("127.0.0.1", port_of(server)))
            connecting = connect("ws://example.com/", sock=sock)
            async with connecting as ws:
                await ws.send("a")
                assert await ws.recv() == "a"
            with pytest.raises(ValueError, match="used already"):
                await connecting
        with pytest.raises(ValueError, match="give one of"):
            connect("ws://example.com/", sock=sock, port=1)

    run(main)


def test_local_address_is_bound(run):
    async def main():
        peers = []
        async with serve(process_request=lambda ws, _: peers.append(ws.remote_address)) as server:
            port = closed_port()
            async with connect(uri_of(server), local_addr=("127.0.0.1", port)):
                pass
            assert peers == [("127.0.0.1", port)]
            with pytest.raises(OSError, match="family"):
                await connect(uri_of(server), local_addr=("::1", 0))
            with pytest.raises(OSError, match="cannot connect from"):
                await connect(uri_of(server), local_addr=("192.0.2.1", 0))

    run(main)


def test_addresses_are_tried_in_turn(run, monkeypatch):
    async def main():
        async with serve() as server:
            good, bad = port_of(server), closed_port()
            ports = [bad, bad, good]

            async def resolve(loop, host, port, family):
                assert (host, family) == ("localhost", socket.AF_INET)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", one)) for one in ports]

            monkeypatch.setattr(dialling, "resolve", resolve)
            async with connect("ws://localhost:1/", family=socket.AF_INET) as ws:
                await ws.send("a")
                assert await ws.recv() == "a"
            ports = [bad, bad]
            with pytest.raises(OSError, match=r"cannot connect to localhost:1: .*; ") as caught:
                await connect("ws://localhost:1/", family=socket.AF_INET)
            assert caught.value.errno
            ports = [bad]
            with pytest.raises(ConnectionRefusedError):
                await connect("ws://localhost:1/", family=socket.AF_INET)
            ports = []
            with pytest.raises(OSError, match="no address"):
                await connect("ws://localhost:1/", family=socket.AF_INET)

    run(main)


def test_frames_are_not_held_back_for_an_acknowledgement(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())
            with await dialling.connect_socket(loop, address, ()) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert not sock.getblocking()

    run(main)


def test_name_without_address_is_an_OSError(run):
    async def main():
        with pytest.raises(OSError):
            await connect("ws://nowhere.invalid/")

    run(main)


# ---------------------------------------------------------------- time


def test_server_that_does_not_answer_is_given_up(run):
    async def main():
        async with peer(silent) as server:
            with pytest.raises(TimeoutError, match=r"not open after 0\.05 seconds"):
                await connect(uri_of(server), open_timeout=0.05)

    run(main)


def test_proxy_that_does_not_answer_is_given_up(run):
    async def main():
        async with peer(silent) as server:
            with pytest.raises(TimeoutError, match=r"not open after 0\.05 seconds"):
                await connect(
                    "ws://localhost/", proxy=f"http://127.0.0.1:{port_of(server)}", open_timeout=0.05
                )

    run(main)


def test_answer_that_does_not_end_is_given_up(run):
    async def endless(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        await reader.read()

    async def main():
        async with peer(endless) as server:
            with pytest.raises(TimeoutError):
                await connect(uri_of(server), open_timeout=0.05)

    run(main)


def test_timeouts_of_the_system_stay_as_they_are(run, monkeypatch):
    async def resolve(loop, host, port, family):
        raise OSError(110, "Connection timed out")

    monkeypatch.setattr(dialling, "resolve", resolve)

    async def main():
        with pytest.raises(TimeoutError, match="Connection timed out"):
            await connect("ws://localhost/")

    run(main)


def test_cancelled_attempt_leaves_nothing_behind(run):
    async def main():
        arrived, gone = asyncio.Event(), asyncio.Event()

        async def accept(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            await reader.read()
            gone.set()

        async with peer(accept) as server:
            task = asyncio.ensure_future(connect(uri_of(server), open_timeout=None))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await gone.wait()

    run(main)
