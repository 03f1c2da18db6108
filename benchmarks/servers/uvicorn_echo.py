"""
An ASGI echo application, asgi_app.py, on uvicorn, uvloop and httptools, for bench.py.

    uvicorn_echo.py PORT --ws IMPLEMENTATION [--broadcast] [--deflate] [--cert FILE --key FILE]

IMPLEMENTATION is what uvicorn's --ws takes.
"""

from __future__ import annotations

import socket

import asgi_app
import uvicorn
from options import parser


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()
        print(f"listening {host}:{port}", flush=True)


if __name__ == "__main__":
    arguments = parser(deflate=True)
    arguments.add_argument("--ws", required=True)
    options = arguments.parse_args()
    Server(
        uvicorn.Config(
            asgi_app.broadcast if options.broadcast else asgi_app.echo,
            host="127.0.0.1",
            port=options.port,
            ws=options.ws,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            log_level="warning",
            ws_max_size=32 * 1024 * 1024,
            ws_ping_interval=None,
            ws_per_message_deflate=options.deflate,
            backlog=4096,
            ssl_certfile=options.cert,
            ssl_keyfile=options.key,
        )
    ).run()
