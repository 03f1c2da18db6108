"""The command line, as a process of its own."""

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys

import pytest
import websockets
from certificates import certificate_of, issue
from supervised import process

import fastws

LIMIT = 20  # seconds for what should take less than one
HANDLERS = """
import contextlib
import fastws

class Echo(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)

class Names:
    inner = Echo

shared = Echo()
make = lambda: Echo()
number = 5

@contextlib.asynccontextmanager
async def around(server):
    print("begins", flush=True)
    yield
    print("ends", flush=True)
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "broken.py").write_text("import no_such_module_at_all\n")
    return tmp_path


def command(*args):
    return [sys.executable, "-m", "fastws", *map(str, args)]


def done(place, *args):
    return subprocess.run(
        command(*args), check=False, cwd=place, capture_output=True, text=True, timeout=LIMIT
    )


@contextlib.contextmanager
def serving(place, *args):
    """Start a server; give the process and the line that it prints when it listens."""
    with subprocess.Popen(command("serve", *args), cwd=place, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


@contextlib.contextmanager
def logging_server(place, *args):
    """Start a server whose log is read; give the process and its URI."""
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    with process(command("serve", *args), place, env=environment) as server:
        yield server, server.uri


async def echo(client):
    await client.send("x")
    return await client.recv()


def test_start_line_says_address_kernels_loop_and_limits(place):
    args = ("handlers:Echo", "--port", 0, "--max-size", 1000, "--max-connections", 70)
    with serving(place, *args) as (_, line):
        assert re.fullmatch(
            r"fastws listens on ws://127\.0\.0\.1:\d+ "
            rf"\(kernels {fastws.kernels()}, loop uvloop, "
            r"at most 70 connections, messages up to 1000 bytes\)\n",
            line,
        )


def test_limits_not_given_are_the_servers_own(place):
    most = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 256, 1)
    with serving(place, "handlers:Echo", "--port", 0) as (_, line):
        assert f"at most {most} connections, messages up to {2**20} bytes" in line


@pytest.mark.parametrize("name", ["Echo", "Names.inner", "shared", "make"])
def test_serves_until_sigterm_and_exits_0(place, name):
    with serving(place, f"handlers:{name}", "--port", 0) as (process, line):

        async def main():
            async with websockets.connect(re.search(r"ws://\S+", line)[0]) as client:
                assert await echo(client) == "x"
                process.send_signal(signal.SIGTERM)
                await client.wait_closed()
                assert client.close_code == 1001

        asyncio.run(asyncio.wait_for(main(), LIMIT))
        assert process.wait(LIMIT) == 0


def test_options_reach_the_server(place):
    with serving(place, "handlers:Echo", "--port", 0, "--max-size", 10) as (_, line):

        async def main():
            async with websockets.connect(re.search(r"ws://\S+", line)[0]) as client:
                await client.send("x" * 11)
                await client.wait_closed()
                assert client.close_code == 1009

        asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_serves_on_a_unix_socket(place):
    path = place / "socket"
    with serving(place, "handlers:Echo", "--unix", path) as (process, line):
        assert line.startswith(f"fastws listens on unix:{path} (")

        async def main():
            async with websockets.unix_connect(str(path), "ws://localhost/") as client:
                assert await echo(client) == "x"

        asyncio.run(asyncio.wait_for(main(), LIMIT))
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("handlers", "'handlers' is not of the form module:handler"),
        (":Echo", "':Echo' is not of the form module:handler"),
        ("handlers:", "'handlers:' is not of the form module:handler"),
        ("nowhere:Echo", "there is no module 'nowhere' (looked in {place} and sys.path)"),
        ("nowhere.deep:Echo", "there is no module 'nowhere' (looked in {place} and sys.path)"),
        ("handlers.deep:Echo", "there is no module 'handlers.deep'"),
        ("handlers:Ecco", "'handlers' has no 'Ecco'"),
        ("handlers:Names.outer", "'handlers' has no 'Names.outer'"),
        ("broken:Echo", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("handlers:number", "handler is 5, expected a coroutine function"),
    ],
)
def test_a_target_that_cannot_be_served_is_named(place, target, message):
    got = done(place, "serve", target, "--port", 0)
    assert got.returncode != 0
    # click wraps its lines.
    assert "".join(message.format(place=place).split()) in "".join(got.stderr.split())
    if target != "broken:Echo":
        assert "Traceback" not in got.stderr
    assert got.stdout == ""


@pytest.mark.parametrize("workers", [(), ("--workers", 1)], ids=["alone", "workers"])
def test_a_lifespan_by_name_is_around_the_servers_life(place, workers):
    args = ("handlers:Echo", "--port", 0, "--lifespan", "handlers:around", *workers)
    with serving(place, *args) as (process, line):
        assert line == "begins\n"
        assert process.stdout.readline().startswith("fastws listens on ws://")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "ends\n"
        assert process.wait(LIMIT) == 0


@pytest.mark.parametrize("workers", [(), ("--workers", 1)], ids=["alone", "workers"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("around", "'around' is not of the form module:function, as in feeds:feed"),
        ("nowhere:around", "there is no module 'nowhere'"),
        ("handlers:nothing", "'handlers' has no 'nothing'"),
        ("handlers:number", "lifespan is 5, expected a function that returns an async context manager"),
    ],
)
def test_a_lifespan_that_there_is_not_is_named(place, workers, target, message):
    got = done(place, "serve", "handlers:Echo", "--port", 0, "--lifespan", target, *workers)
    assert got.returncode != 0
    assert "".join(message.split()) in "".join(got.stderr.split())
    assert "Traceback" not in got.stderr
    assert got.stdout == ""


def test_an_address_in_use_is_an_error_of_one_line(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        got = done(place, "serve", "handlers:Echo", "--port", port)
    assert got.returncode == 1
    assert got.stderr.startswith("Error: ")
    assert f"cannot listen on 127.0.0.1 port {port}: " in got.stderr
    assert got.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        *(("--port", 70000), ("--max-size", -1), ("--max-connections", 0), ("--text-as", "utf"), ("--nope",)),
        *(("--workers", 0), ("--drain-rate", -1), ("--address-from", "me"), ("--address-from", "PROXY")),
    ],
)
def test_a_bad_option_is_named(place, args):
    got = done(place, "serve", "handlers:Echo", *args)
    assert got.returncode == 2
    assert args[0] in got.stderr


def test_help_lists_every_option(place):
    text = done(place, "serve", "--help").stdout
    for name in (
        *("host", "port", "unix", "max-size", "max-connections", "ping-interval", "ping-timeout"),
        *("open-timeout", "close-timeout", "text-as", "log-level", "lifespan"),
        *("workers", "reload", "reload-dir", "drain-rate", "drain-timeout", "stall-timeout"),
        *("trusted-proxy", "address-from"),
    ):
        assert re.search(rf"^  --{name}\b", text, re.MULTILINE), name
    assert "MODULE:HANDLER" in text
    assert "[default: 8765" in " ".join(text.split())
    assert re.search(r"^  serve\b", done(place, "--help").stdout, re.MULTILINE)


def test_version_names_version_and_kernels(place):
    assert done(place, "--version").stdout == f"fastws {fastws.__version__} (kernels {fastws.kernels()})\n"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_sighup_reads_the_certificate_again_and_keeps_the_old_one_when_that_fails(place):
    def reload(process, said):
        process.send_signal(signal.SIGHUP)
        for line in process.stderr:
            if said in line:
                return
        raise EOFError

    first = issue(place)
    args = ("handlers:Echo", "--port", 0, "--certfile", "chain.pem", "--keyfile", "key.pem")
    with subprocess.Popen(
        command("serve", *args), cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            port = int(re.search(r"wss://127\.0\.0\.1:(\d+) ", process.stdout.readline())[1])
            assert certificate_of(port) == first
            second = issue(place)
            reload(process, "the certificate that was read now")
            assert certificate_of(port) == second
            (place / "key.pem").write_text("nothing")
            reload(process, "the certificate stays as it was: ")
            assert certificate_of(port) == second
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()


def test_sigusr1_logs_how_many_connections_a_single_process_has(place):
    with logging_server(place, "handlers:Echo", "--port", 0) as (server, uri):

        async def main():
            async with websockets.connect(uri) as client:
                for _ in range(2):
                    server.signal(signal.SIGUSR1)
                    await asyncio.to_thread(server.until_logged, "connections: 1")
                assert await echo(client) == "x"

        asyncio.run(asyncio.wait_for(main(), LIMIT))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.fixture
def terminal():
    """Let processes be ended by SIGHUP, though whoever runs the tests had it ignored, as nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
def test_who_closes_the_terminal_ends_a_server_without_a_certificate(place):
    with logging_server(place, "handlers:Echo", "--port", 0) as (server, _):
        server.signal(signal.SIGHUP)
        assert server.wait() == -signal.SIGHUP


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--certfile", "no.pem"), "cannot read no.pem: No such file"),
        (("--certfile", "handlers.py"), "no certificate with its key in handlers.py"),
        (("--keyfile", "no.pem"), "no certfile"),
    ],
)
def test_files_that_are_no_certificate_are_named(place, args, said):
    result = done(place, "serve", "handlers:Echo", "--port", 0, *args)
    assert result.returncode == 1
    assert said in result.stderr and "Traceback" not in result.stderr
