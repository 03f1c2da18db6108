"""
A relay: what another server sends goes to all of our subscribers, however many there are.

    python examples/topics/relay.py URI [PORT]

The connection to that server is made again when it is lost; what came last is kept for new subscribers.
"""

import asyncio
import contextlib
import sys

import fastws


class Relayed(fastws.Handler):
    def on_open(self, ws):
        ws.subscribe("feed")


async def relay(server, uri):
    async for upstream in fastws.connect(uri):
        with contextlib.suppress(fastws.ConnectionClosed):
            async for message in upstream:
                server.publish("feed", message)


def feed(uri):
    @contextlib.asynccontextmanager
    async def lifespan(server):
        server.topic("feed", policy="drop-oldest", retain=1)
        task = asyncio.create_task(relay(server, uri))
        try:
            yield
        finally:
            task.cancel()

    return lifespan


if __name__ == "__main__":
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8765
    fastws.run(
        Relayed,
        "127.0.0.1",
        port,
        lifespan=feed(sys.argv[1]),
        ready=lambda server: print(server.sockets[0].getsockname()[1], flush=True),
    )
