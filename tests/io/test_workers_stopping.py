"""Workers that stop: all of them, or one, told by the supervisor or by others."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import time

import pytest
from peers import HANDSHAKE, LIMIT
from supervised import HANDLERS, bounded, children, client, is_gone, process, serving, until, who


def test_sigterm_closes_connections_spread_over_time_and_ends_with_0(tmp_path):
    with serving(tmp_path, "handlers:Echo", "--drain-rate", 20, workers=2) as server:
        ends = []

        async def stay():
            async with client(server.uri) as ws:
                opened.append(ws)
                await ws.wait_closed()
                ends.append(time.monotonic())
                assert ws.close_code == 1001

        opened = []

        async def main():
            clients = [asyncio.ensure_future(stay()) for _ in range(60)]
            await until(lambda: len(opened) == 60)
            server.signal(signal.SIGTERM)
            await asyncio.gather(*clients)

        bounded(main())
        assert server.wait() == 0, server.rest()
    # Some 30 in each worker, at 20 a second: a second and a half, and not in one go.
    assert ends[-1] - ends[0] > 0.5
    gaps = [later - earlier for earlier, later in itertools.pairwise(ends)]
    assert max(gaps) < (ends[-1] - ends[0]) / 2


def test_sigterm_is_over_in_time_with_peers_that_do_not_answer(tmp_path):
    with (
        serving(tmp_path, "handlers:Echo", "--drain-timeout", 1) as server,
        socket.create_connection(("127.0.0.1", server.port), LIMIT) as deaf,
    ):
        deaf.sendall(HANDSHAKE)
        assert deaf.recv(4096).startswith(b"HTTP/1.1 101 ")
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.rest()
        assert time.monotonic() - begin < 4


def test_a_second_sigterm_ends_at_once(tmp_path):
    with (
        serving(tmp_path, "handlers:Echo", "--drain-timeout", 100, "--close-timeout", 100) as server,
        socket.create_connection(("127.0.0.1", server.port), LIMIT) as deaf,
    ):
        deaf.sendall(HANDSHAKE)
        assert deaf.recv(4096).startswith(b"HTTP/1.1 101 ")
        server.signal(signal.SIGTERM)
        server.until_logged("stopping 2 workers")
        assert deaf.recv(4096) == b"\x88\x02\x03\xe9"
        server.signal(signal.SIGTERM)
        begin = time.monotonic()
        assert server.wait() == 0, server.rest()
        assert time.monotonic() - begin < 5


def test_sigterm_to_the_whole_group_closes_connections_as_one_to_the_supervisor_does(tmp_path):
    with serving(tmp_path, "handlers:Echo", "--drain-rate", 20, start_new_session=True) as server:

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(client(server.uri)) for _ in range(20)]
                os.killpg(server.pid, signal.SIGTERM)
                for ws in clients:
                    await ws.wait_closed()
                assert {ws.close_code for ws in clients} == {1001}

        bounded(main())
        assert server.wait() == 0, server.rest()
        bounded(until(lambda: is_gone_with_its_group(server.pid)))


def is_gone_with_its_group(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_sigterm_while_workers_are_replaced_closes_connections_with_1001(tmp_path):
    with serving(tmp_path, "handlers:Echo", "--drain-rate", 20) as server:

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(client(server.uri)) for _ in range(40)]
                server.signal(signal.SIGHUP)
                server.until_logged("replacing the workers")
                server.until_logged("is ready")
                server.signal(signal.SIGTERM)
                for ws in clients:
                    await ws.wait_closed()
                assert {ws.close_code for ws in clients} == {1001}

        bounded(main())
        assert server.wait() == 0, server.rest()


def test_two_sigterms_to_a_worker_alone_drop_its_connections(tmp_path):
    with (
        serving(tmp_path, "handlers:Echo", "--drain-timeout", 100, workers=1) as server,
        socket.create_connection(("127.0.0.1", server.port), LIMIT) as deaf,
    ):
        deaf.sendall(HANDSHAKE)
        assert deaf.recv(4096).startswith(b"HTTP/1.1 101 ")
        (pid,) = children(server.pid)
        os.kill(pid, signal.SIGTERM)
        assert deaf.recv(4096) == b"\x88\x02\x03\xe9"
        os.kill(pid, signal.SIGTERM)
        server.until_logged("is ready")
        assert bounded(until_gone(pid)) is None


@contextlib.contextmanager
def deaf_client(port):
    """A client that answers nothing, a Close neither."""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as deaf:
        deaf.sendall(HANDSHAKE)
        assert deaf.recv(4096).startswith(b"HTTP/1.1 101 ")
        yield deaf


def test_connections_made_while_a_worker_drains_are_answered_by_its_replacement(tmp_path):
    with (
        serving(tmp_path, "handlers:Who", "--close-timeout", 100, workers=1) as server,
        deaf_client(server.port),
    ):
        (pid,) = children(server.pid)
        os.kill(pid, signal.SIGTERM)
        server.until_logged(f"process {pid} stops")
        begin = time.monotonic()
        for _ in range(5):
            assert bounded(who(server.uri))[1] != pid
        assert time.monotonic() - begin < 2
        assert pid in children(server.pid)  # it drains still
        os.kill(pid, signal.SIGTERM)  # a second one
        bounded(until_gone(pid))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.rest()
        assert "ERROR" not in server.rest()


def test_a_worker_whose_server_is_closed_by_its_handler_is_replaced_at_once(tmp_path):
    (tmp_path / "handlers.py").write_text(
        HANDLERS + "class Closing(Who):\n    def on_message(self, ws, message):\n        ws.server.close()\n"
    )
    with (
        serving(tmp_path, "handlers:Closing", "--close-timeout", 100, workers=1) as server,
        deaf_client(server.port),
    ):
        (pid,) = children(server.pid)

        async def main():
            async with client(server.uri) as ws:
                await ws.recv()
                await ws.send("close")
                await ws.wait_closed()
            assert (await who(server.uri))[1] != pid

        bounded(main())
        assert pid in children(server.pid)


def test_of_the_workers_that_drain_in_one_place_the_fifth_costs_the_first_its_connections(tmp_path):
    options = ("--close-timeout", 100, "--drain-timeout", 100)
    with (
        serving(tmp_path, "handlers:Who", *options, workers=1) as server,
        contextlib.ExitStack() as stack,
    ):
        pids = []
        for _ in range(5):
            _, pid, _ = bounded(who(server.uri))
            stack.enter_context(deaf_client(server.port))
            pids.append(pid)
            os.kill(pid, signal.SIGTERM)
            server.until_logged(f"process {pid} stops")
        bounded(until_gone(pids[0]))
        bounded(who(server.uri))
        assert set(pids[1:]) < set(children(server.pid))
        server.signal(signal.SIGTERM)
        server.until_logged("stopping 5 workers")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.rest()


def test_workers_that_stop_while_they_are_replaced_are_replaced_all_the_same(tmp_path):
    with serving(tmp_path, "handlers:Who") as server, deaf_client(server.port):
        before = children(server.pid)
        server.signal(signal.SIGHUP)
        for pid in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

        async def main():
            found = set()
            while found != {0, 1}:
                # For a moment those before accept still.
                number, pid, _ = await who(server.uri)
                if pid not in before:
                    found.add(number)

        bounded(main())
        server.until_logged("the workers are replaced")
        assert len(children(server.pid)) == 2
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.rest()


def test_a_replacement_that_has_just_begun_does_not_outlive_its_supervisor(tmp_path):
    with (
        serving(tmp_path, "handlers:Who", start_new_session=True, workers=1) as server,
        deaf_client(server.port),
    ):
        (pid,) = children(server.pid)
        os.kill(pid, signal.SIGTERM)
        server.until_logged(f"process {pid} stops")
        os.killpg(server.pid, signal.SIGTERM)
        assert server.wait() == 0, server.rest()
        bounded(until(lambda: is_gone_with_its_group(server.pid)))


STOPPING = """
import contextlib, logging, os, signal, time
import fastws

logging.basicConfig(level=logging.INFO)
say = lambda line: print(line, flush=True)


def stop(server):
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.asynccontextmanager
async def life(server):
    yield
    if not os.path.exists("hung"):
        open("hung", "x").close()
        time.sleep(3600)


fastws.run("handlers:Who", port=0, workers=1, started=say, {})
"""


def test_a_worker_that_stops_whenever_it_is_ready_is_not_replaced_as_fast_as_it_goes(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "main.py").write_text(STOPPING.replace("{}", "ready=stop"))
    with process([sys.executable, "main.py"], tmp_path) as server:
        server.until_logged("is ready")
        begin = time.monotonic()
        for _ in range(3):
            server.until_logged("is ready")
        # At once, after 0.5 s, and after 0.9 s.
        assert time.monotonic() - begin > 1.3


def test_a_worker_that_stops_by_itself_and_does_not_end_is_killed_and_costs_no_more(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "main.py").write_text(STOPPING.replace("{}", "lifespan=life, drain_timeout=0.1"))
    with process([sys.executable, "main.py"], tmp_path) as server:
        (pid,) = children(server.pid)
        os.kill(pid, signal.SIGTERM)
        server.until_logged(f"process {pid} stops")
        assert bounded(who(server.uri))[1] != pid
        assert f"process {pid}" in server.until_logged("was killed by SIGKILL")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.rest()


async def until_gone(pid):
    await until(lambda: is_gone(pid))


def test_a_worker_that_gets_ready_after_sigterm_has_as_long_to_end_as_others(tmp_path):
    (tmp_path / "main.py").write_text(
        "import asyncio, contextlib, time, fastws\n"
        "@contextlib.asynccontextmanager\n"
        "async def life(server):\n"
        "    print('starting', flush=True)\n"
        "    await asyncio.sleep(1)\n"
        "    yield\n"
        "    await asyncio.sleep(3600)\n"
        "fastws.run(fastws.Handler(), port=0, workers=1, drain_timeout=1, lifespan=life)\n"
    )
    with process([sys.executable, "main.py"], tmp_path) as server:
        assert server.line == "starting\n"
        server.signal(signal.SIGTERM)
        begin = time.monotonic()
        assert server.wait() == 1
        assert time.monotonic() - begin < 10


def test_a_sigterm_that_comes_while_the_supervisor_begins_is_not_lost(tmp_path):
    (tmp_path / "main.py").write_text(
        "import fastws, signal\n"
        "install = signal.signal\n"
        "def install_late(number, handler):\n"
        "    before = install(number, handler)\n"
        "    if number == signal.SIGTERM and callable(handler):\n"
        "        signal.raise_signal(number)\n"
        "    return before\n"
        "signal.signal = install_late\n"
        "say = lambda line: print(line, flush=True)\n"
        "fastws.run(fastws.Handler(), port=0, workers=1, started=say)\n"
    )
    with process([sys.executable, "main.py"], tmp_path) as server:
        assert server.line == ""
        assert server.wait() == 0, server.rest()


def test_an_interrupt_from_the_terminal_reaches_everybody_and_ends_with_0(tmp_path):
    with serving(tmp_path, "handlers:Echo", start_new_session=True) as server:

        async def main():
            async with client(server.uri) as ws:
                os.killpg(server.pid, signal.SIGINT)
                await ws.wait_closed()
                assert ws.close_code == 1001

        bounded(main())
        assert server.wait() == 0, server.rest()
    assert "Traceback" not in server.rest()


def test_workers_end_when_their_supervisor_is_killed(tmp_path):
    with serving(tmp_path, "handlers:Echo") as server:
        workers = children(server.pid)

        async def main():
            async with client(server.uri) as ws:
                server.signal(signal.SIGKILL)
                await ws.wait_closed()
                assert ws.close_code == 1001
                await until(lambda: all(map(is_gone, workers)))

        bounded(main())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
