"""The hot paths, each run a few times under callgrind.

Run by `counted.py`, in its environment: under valgrind, with a clock that only readings move. The server
is one that users start, on a Unix socket, but its reactor's turns are called by hand, each when all that
the client wrote is there, so that all are alike. What happens inside `poll` is counted: the client and
the event loop are not.

    python -m micro.instructions.paths DIRECTORY      where counting.c was built

Each path is checked: what the handler got, and what the clients got. Writes the build, and how many
messages each path had, as JSON.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import pathlib
import platform
import re
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable
from typing import Any

import fastws
from fastws import _protocol
from fastws._reactor import reactor_of

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "tests" / "core"))
sys.path.insert(0, sys.argv[1])

import counting
import frames

from ..payloads import masked_frames, mixed_text, random_bytes, ticker

WARM_UP, TURNS = 10, 20
READS = 10  # in which all of a message must have arrived
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
PACKED = (
    b"Sec-WebSocket-Extensions: permessage-deflate; "
    b"client_no_context_takeover; server_no_context_takeover\r\n"
)
TAIL = b"\x00\x00\xff\xff"

SMALL = random_bytes(64)
LONG = mixed_text(64 * 1024)
NEWS = ticker(1024)


class Handler:
    """Counts what came and keeps the last; a path says what else is done with a message."""

    def __init__(self, last: Any) -> None:
        self.came = 0
        self.last = last
        self.server: Any = None

    def take(self, ws: Any, message: Any) -> None:
        self.came += 1
        self.last = message

    def echo(self, ws: Any, message: Any) -> None:
        self.came += 1
        ws.send(message)

    def tell(self, ws: Any, message: Any) -> None:
        self.came += 1
        ws.send(self.last)

    def publish(self, ws: Any, message: Any) -> None:
        self.came += 1
        self.server.publish("topic", message)


def pack(payload: bytes) -> bytes:
    stream = zlib.compressobj(1, wbits=-15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


def unpack(payload: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(payload + TAIL)


def payload_of(frame: bytes) -> bytes:
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


@dataclasses.dataclass(frozen=True)
class Path:
    """
    Attributes:
        data: what the client sends before a turn.
        method: of Handler, called with each message.
        last: what the handler has kept at the start, and must have kept at the end.
        count: messages in `data`.
        readers: connections that get an answer to each message; costs are for each.
        packs: compression is agreed on.
        text_as: of `serve`.
    """

    data: bytes
    method: str
    last: Any = None
    count: int = 1
    readers: int = 1
    packs: bool = False
    text_as: str = "str"


ONE = masked_frames(frames.BINARY, SMALL, 1)
BATCH = masked_frames(frames.BINARY, SMALL, 16)
TEXT = masked_frames(frames.TEXT, LONG, 1)
PATHS = {
    "receive 64": Path(ONE, "take", SMALL),
    "receive 64 x 16": Path(BATCH, "take", SMALL, count=16),
    "echo 64": Path(ONE, "echo"),
    "echo 64 x 16": Path(BATCH, "echo", count=16),
    "receive text 64k": Path(TEXT, "take", LONG.decode()),
    "receive text 64k as bytes": Path(TEXT, "take", LONG, text_as="bytes"),
    "receive inflated 1k": Path(
        frames.frame(frames.TEXT, pack(NEWS), rsv=frames.RSV1), "take", NEWS.decode(), packs=True
    ),
    "send deflated 1k": Path(ONE, "tell", NEWS.decode(), packs=True),
    "publish 64 to 100": Path(ONE, "publish", readers=100),
}


def check(name: str, answers: list[bytes]) -> None:
    """Judge what the clients got in one turn. Raises: AssertionError."""
    path = PATHS[name]
    if path.method == "take":
        assert answers == [b""], name
    elif path.method == "tell":
        assert answers[0][0] == 0xC1, name
        assert unpack(payload_of(answers[0])) == NEWS, name
    else:
        assert answers == [frames.answer(frames.BINARY, SMALL) * path.count] * path.readers, name


def read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1024 * 1024)
    except BlockingIOError:
        return b""


def run(name: str, handler: Handler, poll: Callable[[], Any], clients: list[socket.socket]) -> None:
    """Send what the path says and let `poll` take it, some times uncounted, then counted."""
    path = PATHS[name]
    last = handler.last
    for turn in range(WARM_UP + TURNS):
        if turn == WARM_UP:
            counting.dump("warm-up")
        clients[0].sendall(path.data)
        handler.came = 0
        for _ in range(READS):
            counting.call(poll)
            if handler.came == path.count:
                break
        assert handler.came == path.count, f"{name}: {handler.came} of {path.count} messages came"
        answers = [read(client) for client in clients]
    counting.dump(name)
    assert handler.last == last, name
    check(name, answers)


async def opened(path: str, packs: bool) -> socket.socket:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    await loop.sock_connect(sock, path)
    await loop.sock_sendall(sock, REQUEST + (PACKED if packs else b"") + b"\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await loop.sock_recv(sock, 4096)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert (b"permessage-deflate" in answer) == packs
    return sock


async def count_all(socket_path: str) -> None:
    loop = asyncio.get_running_loop()
    for name, path in PATHS.items():
        handler = Handler(path.last)
        handler.server = server = await fastws.serve(
            on_open=lambda ws: ws.subscribe("topic") and None,
            on_message=getattr(handler, path.method),
            unix=socket_path,
            ping_interval=None,
            text_as=path.text_as,
            compression=fastws.Deflate() if path.packs else None,
        )
        clients = [await opened(socket_path, path.packs) for _ in range(path.readers)]
        run(name, handler, reactor_of(loop).poll, clients)
        for client in clients:
            client.close()
        server.close()
        await server.wait_closed()


def compiler() -> str:
    """Return what compiled the extension modules, by what it left in them; "unknown"."""
    data = pathlib.Path(_protocol.__file__).read_bytes()
    found = re.search(rb"(GCC): \([^)]*\) (\d[\d.]*)|(clang) version (\d[\d.]*)", data)
    return " ".join(part.decode().lower() for part in found.groups() if part) if found else "unknown"


def build() -> dict[str, str]:
    """Return all that instructions depend on beside what they are instructions of."""
    return {
        "machine": platform.machine(),
        "kernels": fastws.kernels(),
        "python": platform.python_version(),
        "compiler": compiler(),
        "libc": " ".join(platform.libc_ver()),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }


def main() -> None:
    gc.disable()
    counting.start()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(count_all(f"{directory}/socket"))
    messages = {name: TURNS * path.count * path.readers for name, path in PATHS.items()}
    json.dump({"build": build(), "messages": messages}, sys.stdout)


if __name__ == "__main__":
    main()
