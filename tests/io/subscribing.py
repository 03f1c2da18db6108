"""Subscribers for tests of topics: a handler that subscribes, and real clients of it."""

import contextlib

import websockets
from peers import port_of

import fastws


class Subscriber(fastws.Handler):
    """Subscribes to what its path names, comma-separated."""

    def on_open(self, ws):
        for name in ws.request.path[1:].split(","):
            if name:
                ws.subscribe(name)

    def on_message(self, ws, message):
        ws.publish("said", message)


@contextlib.asynccontextmanager
async def served(*paths, **options):
    """Give a server, and a real client for each of `paths`."""
    async with (
        fastws.serve(Subscriber, "127.0.0.1", 0, **options) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        uri = f"ws://127.0.0.1:{port_of(server)}"
        clients = [
            await stack.enter_async_context(websockets.connect(f"{uri}/{path}", compression=None))
            for path in paths
        ]
        yield server, *clients


def counts(result):
    return result.subscribers, result.queued, result.dropped, result.conflated, result.closed
