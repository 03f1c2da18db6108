"""
A producer that is a task of the server's event loop.

    python examples/topics/task.py [PORT]

Send a topic's name, say prices.btc or prices.*, to subscribe to it.
"""

import asyncio
import contextlib
import random
import sys

import fastws


class Prices(fastws.Handler):
    def on_message(self, ws, message):
        if isinstance(message, str) and len(message) <= 40 and len(ws.topics) < 10:
            ws.subscribe(message)


async def produce(server):
    prices = {"btc": 97_000.0, "eth": 3_600.0}
    while True:
        for symbol, price in prices.items():
            prices[symbol] = price * random.gauss(1, 0.001)
            server.publish(f"prices.{symbol}", f"{symbol} {prices[symbol]:.2f}", key=symbol)
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def feed(server):
    # Who subscribes gets the last price at once; who is slow gets the newest.
    server.topic("prices.*", policy="latest", retain=1)
    task = asyncio.create_task(produce(server))
    try:
        yield
    finally:
        task.cancel()


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    fastws.run(
        Prices,
        "127.0.0.1",
        port,
        lifespan=feed,
        ready=lambda server: print(server.sockets[0].getsockname()[1], flush=True),
    )
