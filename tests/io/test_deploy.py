"""The configurations in `examples/deploy`: those who read them take them, and clients get through."""

import contextlib
import pathlib
import shutil
import socket
import subprocess
import time

import pytest
from peers import HANDSHAKE, LIMIT
from supervised import HANDLERS, serving

DEPLOY = pathlib.Path(__file__).parents[2] / "examples" / "deploy"
ADDRESSES = (
    HANDLERS
    + """
class Addresses(fastws.Handler):
    def on_open(self, ws):
        ws.send(repr(ws.remote_address))
"""
)
FRAME = 2  # bytes before a short text


def program(name):
    found = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"there is no {name}")
    return found


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def configure(place, name, port, to):
    text = (DEPLOY / name).read_text()
    assert "8080" in text and "127.0.0.1:8765" in text
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace(
        "bind :8080", f"bind 127.0.0.1:{port}"
    )
    path = place / name
    path.write_text(text.replace("127.0.0.1:8765", f"127.0.0.1:{to}"))
    return path


def connect(port, source):
    """Connect from `source` once somebody listens; return the connection."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), LIMIT, (source, 0))
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise


def told(port, source, more=b""):
    """Return the address that the server has of a client from `source`, and the client's own."""
    with connect(port, source) as peer:
        peer.sendall(HANDSHAKE.replace(b"\r\nHost", b"\r\n" + more + b"Host", 1))
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < FRAME:
            piece = peer.recv(4096)
            assert piece, data
            data += piece
        frames = data.partition(b"\r\n\r\n")[2]
        while len(frames) < FRAME + frames[1]:
            frames += peer.recv(4096)
        return frames[FRAME : FRAME + frames[1]].decode(), peer.getsockname()


@contextlib.contextmanager
def nginx(place, port, to):
    path = configure(place, "nginx.conf", port, to)
    (place / "logs").mkdir()
    settings = f"pid {place}/pid; error_log {place}/logs/error.log; daemon off;"
    command = [program("nginx"), "-p", str(place), "-c", str(path)]
    tested = subprocess.run(
        [*command, "-t", "-g", settings], check=False, capture_output=True, text=True, timeout=LIMIT
    )
    assert tested.returncode == 0, tested.stderr
    running = subprocess.Popen(
        [*command, "-g", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        running.terminate()
        running.wait(LIMIT)


@contextlib.contextmanager
def haproxy(place, port, to, version="send-proxy-v2"):
    path = configure(place, "haproxy.cfg", port, to)
    path.write_text(path.read_text().replace("send-proxy-v2", version))
    tested = subprocess.run(
        [program("haproxy"), "-c", "-f", str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert tested.returncode == 0, tested.stderr
    assert "WARNING" not in tested.stderr
    running = subprocess.Popen(
        [program("haproxy"), "-f", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        running.terminate()
        running.wait(LIMIT)


def test_the_server_behind_nginx_knows_its_clients(tmp_path):
    (tmp_path / "handlers.py").write_text(ADDRESSES)
    port = free_port()
    with (
        serving(tmp_path, "handlers:Addresses", "--trusted-proxy", "127.0.0.1") as server,
        nginx(tmp_path, port, server.port),
    ):
        assert told(port, "127.0.0.2")[0] == "('127.0.0.2', 0)"
        # Whatever the client says itself.
        claim = b"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n"
        assert told(port, "127.0.0.3", claim)[0] == "('127.0.0.3', 0)"


@pytest.mark.parametrize("version", ["send-proxy-v2", "send-proxy"])
def test_the_server_behind_haproxy_knows_its_clients(tmp_path, version):
    (tmp_path / "handlers.py").write_text(ADDRESSES)
    port = free_port()
    args = ("--trusted-proxy", "127.0.0.1", "--address-from", "PROXY")
    with (
        serving(tmp_path, "handlers:Addresses", *args) as server,
        haproxy(tmp_path, port, server.port, version),
    ):
        address, own = told(port, "127.0.0.2")
        assert address == repr(own)
    # Its health checks are nothing to talk about.
    assert "dropped" not in server.rest()


def test_the_unit_file_has_options_that_there_are():
    text = (DEPLOY / "fastws.service").read_text()
    command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    args = command.partition(" -m fastws ")[2].split()
    from click.testing import CliRunner

    from fastws.cli import main

    result = CliRunner().invoke(main, [*args[:2], "--help", *args[2:]])
    assert result.exit_code == 0
    known = result.output
    for arg in args:
        if arg.startswith("--"):
            assert f"  {arg} " in known


@pytest.mark.parametrize("name", ["fastws.service", "fastws.socket"])
def test_systemd_takes_the_units(tmp_path, name):
    analyze = program("systemd-analyze")
    for one in DEPLOY.glob("fastws.s*"):
        text = one.read_text().replace("/srv/ticker/.venv/bin/python", "/bin/true")
        (tmp_path / one.name).write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / name)],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    complaints = [line for line in done.stderr.splitlines() if "fastws." in line]
    assert done.returncode == 0 and complaints == [], done.stderr
