"""Servers that share a backplane, and clients whose subscriptions all of them know of."""

import contextlib

import websockets
from peers import port_of, until

import fastws


class Subscriber(fastws.Handler):
    """Subscribes to what its path names, comma-separated."""

    def on_open(self, ws):
        for name in ws.request.path[1:].split(","):
            if name:
                ws.subscribe(name)


@contextlib.asynccontextmanager
async def joined(url, count=2, handler=Subscriber, **options):
    """Give servers that know each other."""
    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                fastws.serve(handler, "127.0.0.1", 0, backplane=url, ping_interval=None, **options)
            )
            for _ in range(count)
        ]
        await settled(*servers)
        yield servers


async def settled(*servers):
    everybody = {server.epoch for server in servers}
    for server in servers:
        await until(lambda server=server: server.backplane.roster.others >= everybody - {server.epoch})
    for server in servers:
        await server.backplane.settle()


@contextlib.asynccontextmanager
async def client(server, path, **options):
    """Connect a client whose subscriptions other servers know of."""
    before = server.connections
    names = set(path.split(",")) - {""}
    uri = f"ws://127.0.0.1:{port_of(server)}/{path}"
    async with websockets.connect(uri, **{"compression": None, **options}) as websocket:
        await until(lambda: any(ws.topics >= names for ws in server.connections - before))
        await server.backplane.settle()
        yield websocket
