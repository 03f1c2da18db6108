"""`fastws.connect` against servers of `websockets`, and against peers that answer as no server should."""

import asyncio
import base64
import contextlib
import itertools
import logging
import socket

import pytest
import websockets
from peers import until

from fastws import dialling
from fastws.client import backoff, connect, process_exception, unix_connect
from fastws.client_handshake import USER_AGENT
from fastws.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    SecurityError,
)
from fastws.headers import accept_key
from fastws.http11 import Response

pytestmark = [
    pytest.mark.usefixtures("no_proxies"),
    pytest.mark.without_tls("the servers are those of others; TLS is in test_tls_client"),
]


async def echo(ws):
    async for message in ws:
        await ws.send(message)


def serve(handler=echo, **options):
    """Serve with websockets on a free port."""
    return websockets.serve(handler, "127.0.0.1", 0, **options)


def uri_of(server, path="/", user=""):
    return f"ws://{user}127.0.0.1:{port_of(server)}{path}"


def port_of(server):
    return server.sockets[0].getsockname()[1]


def redirecting(where, status=302):
    """Return a `process_request` that knows the path "/there" and sends all others to `where`."""
    seen = []

    def process_request(connection, request):
        seen.append(request)
        if request.path == "/there":
            return None
        response = connection.respond(status, "There.\n")
        response.headers["Location"] = where() if callable(where) else where
        return response

    process_request.seen = seen
    return process_request


@contextlib.asynccontextmanager
async def peer(*answers):
    """
    Listen, and give each connection the next of `answers`, the last again and again.

    An answer is bytes to send behind the request head, before the end; or a coroutine function,
    called with reader and writer.
    """
    remaining = itertools.chain(answers, itertools.repeat(answers[-1]))
    tasks = set()

    async def accept(reader, writer):
        task = asyncio.current_task()
        tasks.add(task)
        try:
            answer = next(remaining)
            if callable(answer):
                await answer(reader, writer)
            else:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client has had enough, or the test
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await until(lambda: not tasks)
        await server.wait_closed()


async def accept_by_hand(reader, writer, more=b"", behind=b""):
    """Accept a connection, with more fields, and with bytes right behind the head."""
    head = await reader.readuntil(b"\r\n\r\n")
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept_key(key)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n" + more + b"\r\n" + behind)


async def silent(reader, writer):
    await reader.read()


def http_proxy(answer=b"HTTP/1.1 200 OK\r\n\r\n", seen=None):
    """Return a coroutine function for `peer` that is a proxy; it tunnels when its answer is 200."""

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
            writer.write_eof()

    async def accept(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head.decode())
        if b" 200 " not in answer:
            writer.write(answer)
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        behind, to_server = await asyncio.open_connection(host, int(port))
        try:
            writer.write(answer)
            await asyncio.gather(pump(reader, to_server), pump(behind, writer))
        finally:
            to_server.close()
            with contextlib.suppress(OSError):
                await to_server.wait_closed()

    return accept


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


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


# ---------------------------------------------------------------- redirects


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


# ---------------------------------------------------------------- proxies


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


# ---------------------------------------------------------------- again and again


def at_once():
    return itertools.repeat(0.0)


def test_connection_is_opened_again_when_it_is_lost(run):
    async def main():
        count = 0

        async def two(ws):
            await ws.send("a")
            await ws.close(1012)

        async with serve(two) as server:
            async for ws in connect(uri_of(server)):
                count += 1
                assert await ws.recv() == "a"
                try:
                    await ws.recv()
                except ConnectionClosed:
                    if count < 3:
                        continue
                    break

        assert count == 3

    run(main)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_failure_that_may_pass_is_retried_and_logged(run, status, caplog):
    async def main():
        attempts = []

        def process_request(ws, request):
            attempts.append(request)
            return ws.respond(status, "") if len(attempts) < 4 else None

        async with serve(process_request=process_request) as server:
            async for ws in connect(uri_of(server), reconnect_delays=at_once):
                await ws.send("a")
                assert await ws.recv() == "a"
                break
        assert len(attempts) == 4

    caplog.set_level(logging.INFO, "fastws.client")
    run(main)
    ours = [record for record in caplog.records if record.name == "fastws.client"]
    assert [record.levelname for record in ours] == ["INFO"] * 3
    assert f"status {status}" in ours[0].getMessage()


def test_lost_and_refused_connections_are_retried(run):
    errors = []

    def note(exc):
        errors.append(exc)
        return process_exception(exc) if len(errors) < 4 else exc

    async def main():
        async with peer(b"", b"HTTP/1.1 101 x\r\n", silent, b"HTTP/1.1 404 x\r\n\r\n") as server:
            with pytest.raises(InvalidStatus):
                async for _ in connect(
                    uri_of(server), reconnect_delays=at_once, process_exception=note, open_timeout=0.5
                ):
                    raise AssertionError
        assert [type(error) for error in errors] == [
            InvalidMessage, InvalidMessage, TimeoutError, InvalidStatus,
        ]  # fmt: skip

    run(main)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 429, 501])
def test_failure_that_will_not_pass_ends_the_loop(run, status):
    async def main():
        async with serve(process_request=lambda ws, _: ws.respond(status, "")) as server:
            with pytest.raises(InvalidStatus, match=str(status)):
                async for _ in connect(uri_of(server)):
                    raise AssertionError

    run(main)


@pytest.mark.parametrize("raises", [False, True])
def test_process_exception_may_name_another_exception(run, raises):
    class Enough(Exception):
        pass

    def process(exc):
        if raises:
            raise Enough("a")
        return Enough("a")

    async def main():
        with pytest.raises(Enough) as caught:
            async for _ in connect(f"ws://127.0.0.1:{closed_port()}/", process_exception=process):
                raise AssertionError
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)

    run(main)


def test_delays_begin_anew_after_a_connection(run):
    made = []

    def delays():
        made.append([])
        while True:
            made[-1].append(0.0)
            yield 0.0

    async def main():
        answers = iter([503, 503, None, 503, None])

        def process_request(ws, request):
            status = next(answers)
            return None if status is None else ws.respond(status, "")

        async with serve(process_request=process_request) as server:
            count = 0
            async for _ in connect(uri_of(server), reconnect_delays=delays):
                count += 1
                if count == 2:
                    break
        assert [len(one) for one in made] == [2, 1]

    run(main)


def test_default_judgement_of_exceptions_is_that_of_websockets():
    ended, invalid = InvalidMessage("a"), InvalidMessage("a")
    ended.__cause__ = EOFError()
    for error in (OSError(), ConnectionResetError(), TimeoutError(), asyncio.TimeoutError(), ended):
        assert process_exception(error) is None
    for status in range(200, 600):
        error = InvalidStatus(Response(status, ""))
        assert process_exception(error) is (None if status in (500, 502, 503, 504) else error)
    for error in (invalid, InvalidURI("a", "b"), InvalidHandshake(), SecurityError(), ValueError()):
        assert process_exception(error) is error


def test_delays_grow_and_are_random_at_first():
    for _ in range(20):
        delays = list(itertools.islice(backoff(), 12))
        assert 0 <= delays[0] < 5
        assert delays[1:4] == [3.1, 3.1 * 1.618, 3.1 * 1.618 * 1.618]
        assert delays[1:] == sorted(delays[1:])
        assert delays[-1] == 90
    assert len({next(backoff()) for _ in range(20)}) > 1
    assert list(itertools.islice(backoff(0, 1, 4, 2), 5)) == [0, 1, 2, 4, 4]
