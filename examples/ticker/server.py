"""A live ticker: invented prices, each symbol a topic of its own, and a page that shows them.

python examples/ticker/server.py [--host HOST] [--port PORT]

The page speaks the protocol of `fastws.TickerHandler`, and so may any other client: docs/ticker.md.
"""

import argparse
import asyncio
import contextlib
import pathlib

from market import START, Market

import fastws

PAGE = pathlib.Path(__file__).with_name("page.html").read_bytes()
INTERVAL = 0.25  # seconds between steps of the market
HISTORY = 300  # prices of a symbol that are kept: more than two minutes


class Ticker(fastws.TickerHandler):
    def authorise(self, ws, topic):
        # There are no others; without this, clients could make topics of any name.
        return topic == "prices.*" or topic.removeprefix("prices.") in START


async def produce(server):
    # Who subscribes gets the last price at once, or with `since` what it missed; who is slow gets the newest.
    server.topic("prices.*", policy="latest", retain=1, history=HISTORY)
    market = Market()
    ticks = {symbol: market.tick(symbol) for symbol in market.prices}
    while True:
        for symbol, tick in ticks.items():
            Ticker.publish(server, f"prices.{symbol}", tick, key=symbol)
        await asyncio.sleep(INTERVAL)
        ticks = market.step()


@contextlib.asynccontextmanager
async def feed(server):
    task = asyncio.create_task(produce(server))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


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

    def ready(server):
        port = server.sockets[0].getsockname()[1]
        print(f"The ticker runs at ws://{args.host}:{port} (kernels: {fastws.kernels()}); Ctrl-C stops it.")
        print(f"Watch it: open http://{args.host}:{port}/ in a browser.", flush=True)

    fastws.run(
        Ticker,
        args.host,
        args.port,
        compression=fastws.Deflate(min_size=100),  # a tick is about 120 bytes
        process_request=page,
        lifespan=feed,
        ready=ready,
    )


if __name__ == "__main__":
    main()
