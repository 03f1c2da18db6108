"""A live ticker: invented prices, pushed to every connection, and a page that shows them.

python examples/ticker/server.py [--host HOST] [--port PORT]
"""

import argparse
import asyncio
import contextlib
import json
import pathlib

from market import Market

import fastws

PAGE = pathlib.Path(__file__).with_name("page.html").read_bytes()
INTERVAL = 0.25  # seconds between steps of the market


class Ticker(fastws.Handler):
    """Sends the current prices on opening; what a client sends is ignored."""

    def __init__(self, market):
        self.market = market

    def on_open(self, ws):
        ws.send(json.dumps([self.market.tick(symbol) for symbol in self.market.prices]))


def page(ws, request):
    """Answer plain HTTP: the page, a health check; leave WebSocket requests alone."""
    if "Upgrade" in request.headers:
        return None
    if request.path == "/":
        headers = fastws.Headers({"Content-Type": "text/html; charset=utf-8"})
        return fastws.Response(200, "OK", headers, PAGE)
    if request.path == "/health":
        return ws.respond(200, "ok\n")
    return ws.respond(404, "There is nothing here; the page is at /.\n")


def main():
    parser = argparse.ArgumentParser(description="a live ticker with invented prices")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    market = Market()

    @contextlib.asynccontextmanager
    async def feed(server):
        async def produce():
            while True:
                await asyncio.sleep(INTERVAL)
                ticks = market.step()
                if ticks:
                    fastws.broadcast(server.connections, json.dumps(ticks))

        task = asyncio.create_task(produce())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def ready(server):
        port = server.sockets[0].getsockname()[1]
        print(f"The ticker runs at ws://{args.host}:{port} (kernels: {fastws.kernels()}); Ctrl-C stops it.")
        print(f"Watch it: open http://{args.host}:{port}/ in a browser.", flush=True)

    fastws.run(lambda: Ticker(market), args.host, args.port, process_request=page, lifespan=feed, ready=ready)


if __name__ == "__main__":
    main()
