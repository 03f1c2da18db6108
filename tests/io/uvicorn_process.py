"""uvicorn in a process of its own, with an application of `asgi_apps` or `asgi_frameworks`, for tests."""

import asyncio
import contextlib
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import websockets
from peers import HANDSHAKE, LIMIT, raw_to, until

HERE = pathlib.Path(__file__).parent
OURS, SANSIO = "fastws.uvicorn:WebSocketProtocol", "websockets-sansio"
SERVERS = {
    "fastws-asyncio-h11": (OURS, "asyncio", "h11"),
    "fastws-uvloop-httptools": (OURS, "uvloop", "httptools"),
    "sansio-uvloop-httptools": (SANSIO, "uvloop", "httptools"),
}


class Uvicorn:
    """
    A running server.

    Attributes:
        ws: its implementation of WebSockets.
        port: where it listens; 0 for a Unix socket.
        process: its Popen.
    """

    def __init__(self, process, log, ws):
        self.process = process
        self.port = 0
        self.ws = ws
        self._log = log

    def output(self):
        return pathlib.Path(self._log.name).read_text(errors="replace")

    def notes(self, name):
        """What applications have noted for this id."""
        whole, _, _ = self.output().rpartition("\n")  # it may be writing the last line
        lines = [line[5:] for line in whole.splitlines() if line.startswith("NOTE ")]
        return [note for note in map(json.loads, lines) if note["id"] == name]

    async def note(self, name):
        """Wait for the first note for this id."""
        await until(lambda: self.notes(name))
        return self.notes(name)[0]

    async def wait_for(self, pattern, count=1):
        """Wait until the log has it so many times."""

        def found():
            assert self.process.poll() is None, self.output()
            return len(re.findall(pattern, self.output())) >= count

        await asyncio.wait_for(until(found), LIMIT)

    def uri(self, path, name="", scheme="ws"):
        return f"{scheme}://127.0.0.1:{self.port}{path}?{name}"

    def raw(self, path, name="", data=HANDSHAKE, **options):
        """Connect a plain client that has sent a request for an opening handshake."""
        return raw_to(self.port, data.replace(b"GET / ", f"GET {path}?{name} ".encode()), **options)

    @contextlib.asynccontextmanager
    async def opened(self, path, name="", **options):
        """Connect a plain client that has had its 101."""
        async with self.raw(path, name, **options) as (reader, writer):
            await accepted(reader)
            yield reader, writer

    async def get(self, path, name):
        """Ask for a page of `asgi_apps.page`; return its number."""
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        async with self.raw(path, name, request) as (reader, _):
            return int((await reader.read()).partition(b"\r\n\r\n")[2])

    def stop(self):
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self):
        """Wait for the end. Returns: the exit status."""
        await asyncio.wait_for(until(lambda: self.process.poll() is not None), LIMIT)
        return self.process.returncode


@contextlib.contextmanager
def uvicorn(app="asgi_apps:bare", *options, ws=OURS, workers=1):
    """Run uvicorn until it listens, and stop it at the end."""
    command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(HERE), "--ws", ws]
    if "--uds" not in options:
        command += ["--host", "127.0.0.1", "--port", "0"]
    if workers > 1:
        command += ["--workers", str(workers)]
    with (
        tempfile.NamedTemporaryFile() as log,
        subprocess.Popen(
            [*command, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        server = Uvicorn(process, log, ws)
        try:
            # Of several processes it is the parent that says where, before they listen.
            asyncio.run(server.wait_for(r"Application startup complete", workers))
            asyncio.run(server.wait_for(r"Uvicorn running on "))
            found = re.search(r"Uvicorn running on https?://127.0.0.1:(\d+)", server.output())
            server.port = int(found[1]) if found else 0
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(LIMIT)
                except subprocess.TimeoutExpired:
                    process.kill()


async def accepted(reader):
    """Return the head of a response, which is 101."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    return head


def bounded(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT))


@contextlib.asynccontextmanager
async def connected(server, path, name="", **options):
    async with websockets.connect(server.uri(path, name), max_size=None, **options) as client:
        yield client
