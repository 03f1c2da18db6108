"""systemd: sockets that it passes, and what it is told; the test is in its place, or a tool of its own."""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from peers import LIMIT
from supervised import HANDLERS, client, process, who

from fastws.systemd import Notifier, listen_sockets

# LISTEN_PID is that of the process which the variables are for: only that one can set it, before it becomes
# the server.
ACTIVATE = """
import os, sys
descriptor = int(sys.argv[1])
if descriptor != 3:
    os.dup2(descriptor, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def bounded(main):
    return asyncio.run(asyncio.wait_for(main, LIMIT))


async def first(uri):
    """Return the first message."""
    async with client(uri) as ws:
        return await ws.recv()


class Manager:
    """Hears what a service says."""

    def __init__(self, path):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(LIMIT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def until(self, word):
        """Return what was said until something begins with `word`."""
        said = []
        while not said or not said[-1].startswith(word):
            said.append(self.sock.recv(4096).decode())
        return said

    def has_more(self, seconds):
        return bool(select.select([self.sock], [], [], seconds)[0])


@contextlib.contextmanager
def activated(place, sock, *args, **environ):
    (place / "handlers.py").write_text(HANDLERS)
    command = [
        sys.executable,
        "-c",
        ACTIVATE,
        str(sock.fileno()),
        "-m",
        "fastws",
        "serve",
        "handlers:Who",
        *args,
    ]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ}
    with process(command, place, env=env, pass_fds=[sock.fileno()]) as server:
        yield server


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_socket_that_is_passed_takes_the_place_of_host_and_port(tmp_path, workers):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        # Somebody who comes before there is a server waits.
        early = socket.create_connection(("127.0.0.1", port), LIMIT)
        with early, activated(tmp_path, sock, "--port", "1", *workers) as server:
            assert server.port == port
            number = bounded(first(server.uri)).split()[0]
            assert number in (("0", "1") if workers else ("None",))
            early.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert early.recv(12) == b"HTTP/1.1 400"
        assert server.wait() == 0
        # It is not ours to close: the service manager has it still.
        socket.create_connection(("127.0.0.1", port), LIMIT).close()


def test_systemds_own_tool_activates_the_server(tmp_path):
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        pytest.skip("there is no systemd-socket-activate")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "handlers.py").write_text(HANDLERS)
    serve = [sys.executable, "-m", "fastws", "serve", "handlers:Who", "--workers", "2"]
    names = ("PYTHONPATH", "PATH", "LD_LIBRARY_PATH")
    passed = [f"--setenv={name}" for name in names if name in os.environ]
    command = [tool, f"--listen=127.0.0.1:{port}", *passed, *serve]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:

            async def main():
                while True:
                    try:
                        return await who(f"ws://127.0.0.1:{port}")
                    except ConnectionRefusedError:
                        await asyncio.sleep(0.02)

            assert bounded(main())[0] in (0, 1)
            running.send_signal(signal.SIGTERM)
            assert running.wait(LIMIT) == 0
        finally:
            running.kill()


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_the_service_manager_hears_of_the_beginning_and_the_end(tmp_path, workers):
    with (
        Manager(tmp_path / "notify") as manager,
        socket.create_server(("127.0.0.1", 0)) as sock,
        activated(tmp_path, sock, *workers, NOTIFY_SOCKET=manager.path) as server,
    ):
        assert manager.until("READY=1") == ["READY=1"]

        async def main():
            async with client(server.uri) as ws:
                server.signal(signal.SIGTERM)
                # Told before the connections are closed, which may take its time.
                await asyncio.to_thread(manager.until, "STOPPING=1")
                await ws.wait_closed()

        bounded(main())
        assert server.wait() == 0


def test_the_service_manager_hears_of_reloading_and_when_it_is_done(tmp_path):
    with (
        Manager(tmp_path / "notify") as manager,
        socket.create_server(("127.0.0.1", 0)) as sock,
        activated(tmp_path, sock, "--workers", "1", NOTIFY_SOCKET=manager.path) as server,
    ):
        manager.until("READY=1")
        server.signal(signal.SIGHUP)
        said = manager.until("RELOADING=1")[-1]
        assert int(said.partition("\nMONOTONIC_USEC=")[2]) > 0
        manager.until("READY=1")


def test_a_single_process_answers_a_reload_with_nothing_to_read_and_keeps_its_connections(tmp_path):
    with (
        Manager(tmp_path / "notify") as manager,
        socket.create_server(("127.0.0.1", 0)) as sock,
        activated(tmp_path, sock, NOTIFY_SOCKET=manager.path) as server,
    ):
        manager.until("READY=1")

        async def main():
            async with client(server.uri) as ws:
                await ws.recv()
                server.signal(signal.SIGHUP)
                said = await asyncio.to_thread(manager.until, "READY=1")
                assert [one.partition("\n")[0] for one in said if "STATUS" not in one] == [
                    "RELOADING=1",
                    "READY=1",
                ]
                await asyncio.to_thread(server.until_logged, "nothing to read again")
                await ws.send("still there")
                assert await ws.recv() == "still there"

        bounded(main())


@pytest.mark.parametrize(
    ("workers", "said"),
    [((), "connections: 0"), (("--workers", "2"), "2 workers, connections: 0, 0")],
    ids=["alone", "workers"],
)
def test_the_service_manager_hears_in_words_how_it_goes(tmp_path, workers, said):
    with (
        Manager(tmp_path / "notify") as manager,
        socket.create_server(("127.0.0.1", 0)) as sock,
        activated(tmp_path, sock, *workers, NOTIFY_SOCKET=manager.path),
    ):
        assert manager.until("STATUS=")[-1] == f"STATUS={said}"


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["alone", "workers"])
def test_the_watchdog_is_fed_twice_in_its_time_and_starves_with_the_process(tmp_path, workers):
    with Manager(tmp_path / "notify") as manager, socket.create_server(("127.0.0.1", 0)) as sock:
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}
        with activated(tmp_path, sock, *workers, **environ) as server:
            for _ in range(4):
                manager.until("WATCHDOG=1")
            server.signal(signal.SIGSTOP)
            while manager.has_more(1):
                manager.sock.recv(4096)
            server.signal(signal.SIGCONT)
            manager.until("WATCHDOG=1")


def test_variables_of_another_process_are_left_alone():
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}
    assert listen_sockets(environ) == []
    assert environ["LISTEN_FDS"] == "1"
    assert listen_sockets({}) == []


def test_a_descriptor_that_does_not_listen_is_refused(tmp_path):
    with socket.socket() as sock, activated(tmp_path, sock) as server:
        assert server.wait() == 1
        assert "descriptor 3 of the service manager is no stream socket that listens" in server.rest()


def test_without_a_service_manager_nothing_is_said():
    notifier = Notifier({"WATCHDOG_USEC": "1000"})
    assert notifier.interval is None
    assert not notifier.is_heard
    notifier.ready()


def test_an_abstract_address_and_a_manager_that_has_gone_do_no_harm():
    name = f"@fastws-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:])
        sock.settimeout(LIMIT)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        notifier.ready()
        assert sock.recv(100) == b"READY=1"
        notifier.status("as said")
        notifier.status("as said")
        notifier.stopping()
        assert [sock.recv(100) for _ in range(2)] == [b"STATUS=as said", b"STOPPING=1"]
    notifier.alive()


def test_a_watchdog_for_another_process_is_not_ours():
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Notifier(dict(environ)).interval is None
    assert Notifier({**environ, "WATCHDOG_PID": str(os.getpid())}).interval == 1.0
