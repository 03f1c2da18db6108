"""
An ASGI echo application on uvicorn and uvloop, for bench.py.

    uvicorn_echo.py PORT --ws IMPLEMENTATION

The application is written for ASGI itself, without a framework. IMPLEMENTATION is what uvicorn's --ws takes.
"""

from __future__ import annotations

import argparse
import socket
from typing import Any

import uvicorn


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            break
        data = event.get("bytes")
        if data is not None:
            await send({"type": "websocket.send", "bytes": data})
        else:
            await send({"type": "websocket.send", "text": event["text"]})


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()
        print(f"listening {host}:{port}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--ws", required=True)
    options = parser.parse_args()
    Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=options.port,
            ws=options.ws,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            log_level="warning",
            ws_max_size=32 * 1024 * 1024,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            backlog=4096,
        )
    ).run()
