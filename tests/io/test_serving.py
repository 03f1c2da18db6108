"""Where a server listens, what it says about itself, and how it ends."""

import asyncio
import contextlib
import os
import pathlib
import re
import signal
import socket

import pytest
import websockets
from peers import Echo, port_of, raw, until

import fastws
from fastws import listening
from fastws.running import describe

pytestmark = pytest.mark.without_tls("it is about where to listen")


async def echoes(uri, **options):
    async with websockets.connect(uri, **options) as client:
        await client.send("x")
        return await client.recv() == "x"


async def echoes_at(address):
    host, port = address[:2]
    return await echoes(f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}")


# ---------------------------------------------------------------- TCP


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_address_is_listened_on(run, host):
    async def main():
        async with fastws.serve(Echo, host, 0) as server:
            (sock,) = server.sockets
            assert sock.getsockname()[0] == host
            assert sock.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)
            assert await echoes_at(sock.getsockname())

    run(main)


@pytest.mark.parametrize("host", [None, "", ["127.0.0.1", "::1"], ("::1", "127.0.0.1", "::1")], ids=repr)
def test_several_addresses_share_a_port(run, host):
    async def main():
        async with fastws.serve(Echo, host, 0) as server:
            families = sorted(sock.family for sock in server.sockets)
            assert families == [socket.AF_INET, socket.AF_INET6]
            assert len({sock.getsockname()[1] for sock in server.sockets}) == 1
            for one in ("127.0.0.1", "::1"):
                assert await echoes_at((one, port_of(server)))

    run(main)


def test_a_port_that_is_taken_at_one_of_the_addresses_is_not_chosen(run, monkeypatch):
    tried = []
    real = listening.listen_tcp

    def listen_tcp(family, kind, proto, address, *more):
        with contextlib.ExitStack() as stack:
            if address[1] and not any(tried):
                # Just now somebody else gets it.
                stack.enter_context(socket.create_server(address[:2], family=family))
            tried.append(address[1])
            return real(family, kind, proto, address, *more)

    monkeypatch.setattr(listening, "listen_tcp", listen_tcp)

    async def main():
        async with fastws.serve(Echo, ["127.0.0.1", "::1"], 0) as server:
            assert len({sock.getsockname()[1] for sock in server.sockets}) == 1
            assert len(server.sockets) == 2
            for one in ("127.0.0.1", "::1"):
                assert await echoes_at((one, port_of(server)))

    run(main)
    assert len(tried) > 2


def test_an_address_in_use_is_an_oserror_that_names_it(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server:
            port = port_of(server)
            with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: "):
                await fastws.serve(Echo, ["::1", "127.0.0.1"], port)
            assert await echoes_at(("127.0.0.1", port))

    run(main)


def test_reuse_port_lets_two_servers_share_a_port(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, reuse_port=True) as first:
            port = port_of(first)
            async with fastws.serve(Echo, "127.0.0.1", port, reuse_port=True) as second:
                assert port_of(second) == port
                first.close()
                await first.wait_closed()
                assert await echoes_at(("127.0.0.1", port))
            with pytest.raises(OSError):
                await echoes_at(("127.0.0.1", port))

    run(main)


# ---------------------------------------------------------------- Unix sockets


def test_a_unix_socket_serves_and_is_removed_at_the_end(run, tmp_path):
    path = tmp_path / "socket"
    seen = []

    async def main():
        serving = fastws.unix_serve(
            lambda: Echo(), path, process_request=lambda ws, _request: seen.append(ws) and None
        )
        async with serving as server:
            async with websockets.unix_connect(str(path), "ws://localhost/") as client:
                await client.send("x")
                assert await client.recv() == "x"
                (ws,) = seen
                assert (ws.remote_address, ws.local_address) == ("", str(path))
            assert f"unix:{path}" in describe(server)
        assert not path.exists()

    run(main)


def test_a_stale_unix_socket_is_replaced(run, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async def main():
        async with (
            fastws.serve(Echo, unix=str(path)),
            websockets.unix_connect(str(path), "ws://localhost/") as client,
        ):
            await client.send("x")
            assert await client.recv() == "x"

    run(main)


def test_a_unix_socket_of_a_live_server_is_left_alone(run, tmp_path):
    path = tmp_path / "socket"

    async def main():
        async with fastws.serve(Echo, unix=path):
            with pytest.raises(OSError, match=f"cannot listen on {path}: "):
                await fastws.serve(Echo, unix=path)
            async with websockets.unix_connect(str(path), "ws://localhost/") as client:
                await client.send("x")
                assert await client.recv() == "x"

    run(main)


def test_a_file_that_is_no_socket_is_left_alone(run, tmp_path):
    path = tmp_path / "notes"
    path.write_text("mine")

    async def main():
        with pytest.raises(OSError, match=f"cannot listen on {path}: "):
            async with fastws.serve(Echo, unix=path):
                pass

    run(main)
    assert path.read_text() == "mine"


# ---------------------------------------------------------------- given sockets


@pytest.mark.parametrize("count", [1, 3])
def test_given_sockets_are_served_and_left_open(run, count):
    async def main():
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(socket.socket()) for _ in range(count)]
            for sock in socks:
                sock.bind(("127.0.0.1", 0))
            given = socks[0] if count == 1 else iter(socks)
            async with fastws.serve(Echo, sock=given) as server:
                assert server.sockets == tuple(socks)
                for sock in socks:
                    assert await echoes_at(sock.getsockname())
            assert all(sock.fileno() >= 0 for sock in socks)
            async with fastws.serve(Echo, sock=socks):
                assert await echoes_at(socks[-1].getsockname())

    run(main)


# ---------------------------------------------------------------- arguments


class Nothing:
    pass


async def two_arguments(ws, path):
    pass


FROM_0 = [
    *("open_timeout", "ping_interval", "ping_timeout", "close_timeout"),
    *("max_size", "write_limit", "write_cap"),
]
FROM_1 = ["max_connections", "max_opening"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"handler": None}, TypeError, "no handler: give one, or at least one of on_open, on_message"),
        ({"on_message": print}, TypeError, "a handler and on_message: give one or the other"),
        ({"handler": Nothing}, TypeError, "Nothing'> has none of on_open, on_message"),
        ({"handler": 5}, TypeError, "handler is 5, expected a coroutine function, a class or an object with"),
        (
            {"compression": "gzip"},
            ValueError,
            "compression is 'gzip', allowed are 'deflate', a Deflate and None",
        ),
        ({"text_as": "utf"}, ValueError, "text_as is 'utf', allowed are 'str' and 'bytes'"),
        *(
            ({name: value}, ValueError, f"{name} is {value!r}, allowed are {name in FROM_1:d} and more")
            for name in FROM_0 + FROM_1
            for value in (-1, "1", True, float("nan"))
        ),
        ({"max_connections": 0}, ValueError, "max_connections is 0, allowed are 1 and more"),
        ({"port": 1, "unix": "/x"}, ValueError, "give one of host and port, unix, and sock"),
        ({"host": "a", "sock": []}, ValueError, "give one of host and port, unix, and sock"),
        ({"unix": "/x", "sock": []}, ValueError, "give one of host and port, unix, and sock"),
        ({"origins": "http://a"}, TypeError, "origins is the string 'http://a', expected a sequence"),
        ({"subprotocols": ["a b"]}, ValueError, "subprotocol is 'a b', which is no token"),
        ({"select_subprotocol": 1}, TypeError, "select_subprotocol is 1, expected a function"),
        ({"port": 65536}, ValueError, "port is 65536, allowed are 0 to 65535"),
        ({"port": "80"}, ValueError, "port is '80', allowed are 0 to 65535"),
        ({"host": 8765}, TypeError, "host is 8765, expected a name or address"),
        ({"backlog": "x"}, TypeError, "backlog is 'x', expected an int"),
        ({"process_request": 5}, TypeError, "process_request is 5, expected a function"),
        ({"handler": fastws.Handler}, TypeError, "overrides none of on_open"),
        ({"handler": two_arguments}, TypeError, "cannot be called with a connection alone"),
        ({"server_header": "a\r\nb: c"}, ValueError, "allowed is latin-1 without controls"),
    ],
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", str(value)),
)
def test_an_argument_that_cannot_work_is_refused_at_once(options, error, message):
    with pytest.raises(error) as caught:
        fastws.serve(**{"handler": Echo, **options})
    assert message in str(caught.value)


def test_none_switches_limits_off(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, **dict.fromkeys(FROM_0)) as server:
            assert await echoes_at(server.sockets[0].getsockname())

    run(main)


# ---------------------------------------------------------------- facts


def test_a_server_tells_what_it_does(run):
    async def main():
        server = await fastws.serve(Echo, "127.0.0.1", 0)
        assert server.get_loop() is asyncio.get_running_loop()
        assert server.is_serving()
        assert server.connections == set()
        async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}") as client:
            (ws,) = server.connections
            assert ws.server is server
            assert ws.remote_address == client.local_address
            assert ws.local_address == client.remote_address == server.sockets[0].getsockname()
            assert ws.get_extra_info("peername") == ws.remote_address
            assert ws.get_extra_info("sockname") == ws.local_address
            with socket.socket(fileno=os.dup(ws.get_extra_info("socket_fd"))) as same:
                assert same.getpeername() == client.local_address
            assert ws.get_extra_info("other") is None
            assert ws.get_extra_info("other", 5) == 5
            server.connections.clear()  # a copy
            assert server.connections == {ws}
        await until(lambda: not server.connections)
        server.close()
        assert (server.is_serving(), server.sockets) == (False, ())
        await server.wait_closed()
        assert ws.local_address is None
        assert ws.get_extra_info("socket_fd") is None
        server.close()
        await server.wait_closed()

    run(main)


def test_addresses_of_ipv6_are_those_of_the_socket(run):
    seen = []

    async def main():
        async with (
            fastws.serve(on_open=seen.append, host="::1", port=0) as server,
            websockets.connect(f"ws://[::1]:{port_of(server)}") as client,
        ):
            (ws,) = seen
            assert ws.remote_address == client.local_address
            assert ws.local_address == client.remote_address

    run(main)


# ---------------------------------------------------------------- the end


def test_wait_closed_waits_for_connections_and_callbacks(run):
    events = []

    async def on_close(ws, code, reason):
        for _ in range(5):
            await asyncio.sleep(0)
        events.append(code)

    async def main():
        server = await fastws.serve(on_close=on_close, host="127.0.0.1", port=0)
        async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}"):
            waiting = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0)
            assert not waiting.done()
            server.close(code=1012, reason="again soon")
            await waiting
            assert events == [1012]

    run(main)


def test_close_may_leave_connections_to_themselves(run):
    async def main():
        server = await fastws.serve(Echo, "127.0.0.1", 0)
        port = port_of(server)
        async with websockets.connect(f"ws://127.0.0.1:{port}") as client:
            server.close(close_connections=False)
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
            await client.send("x")
            assert await client.recv() == "x"
        await server.wait_closed()

    run(main)


def test_serve_forever_that_is_cancelled_closes_with_1001(run):
    async def main():
        server = await fastws.serve(Echo, "127.0.0.1", 0)
        task = asyncio.ensure_future(server.serve_forever())
        async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}") as client:
            task.cancel()
            await client.wait_closed()
            assert client.close_code == 1001
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not server.is_serving()

    run(main)


def test_r25_a_lifespan_is_around_the_servers_life():
    events = []

    @contextlib.asynccontextmanager
    async def lifespan(server):
        events.append(("begin", server.is_serving()))
        yield
        events.append(("end", server.is_serving()))

    def ready(server):
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        events.append(("ready", describe(server).partition(" (")[0]))
        os.kill(os.getpid(), signal.SIGTERM)

    fastws.run(Echo, "127.0.0.1", 0, lifespan=lifespan, ready=ready)
    (begin, (name, line), end) = events
    assert (begin, name, end) == (("begin", True), "ready", ("end", False))
    assert line.startswith("fastws listens on ws://127.0.0.1:")
    # The handlers that it had set are gone.
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("workers", [None, 1])
def test_a_lifespan_that_is_no_function_is_refused(workers):
    with pytest.raises(TypeError, match="lifespan is 5, expected a function"):
        fastws.run(Echo, "127.0.0.1", 0, lifespan=5, workers=workers)


def test_an_error_in_a_lifespan_ends_run_and_comes_out():
    @contextlib.asynccontextmanager
    async def lifespan(server):
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        fastws.run(Echo, "127.0.0.1", 0, lifespan=lifespan)


def test_run_serves_a_unix_socket(tmp_path):
    path: pathlib.Path = tmp_path / "socket"
    seen = []

    def ready(server):
        seen.append(path.is_socket())
        server.close()

    fastws.run(Echo, unix=path, ready=ready)
    assert seen == [True]
    assert not path.exists()


def test_a_connection_in_its_opening_does_not_keep_a_server_from_closing(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server, raw(server, b"GET / ") as (reader, _):
            await until(lambda: len(server._carrier.descriptors_of(server)) == 1)
            server.close()
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")

    run(main)
