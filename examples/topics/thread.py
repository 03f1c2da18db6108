"""
A producer in a thread of its own, as a blocking library needs one.

    python examples/topics/thread.py [PORT]

Every connection subscribes to "clock".
"""

import contextlib
import sys
import threading
import time

import fastws


class Clock(fastws.Handler):
    def on_open(self, ws):
        ws.subscribe("clock")


def produce(server, stopped):
    while not stopped.wait(0.1):
        server.publish_threadsafe("clock", time.strftime("%H:%M:%S"))


@contextlib.asynccontextmanager
async def feed(server):
    stopped = threading.Event()
    thread = threading.Thread(target=produce, args=(server, stopped))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    fastws.run(
        Clock,
        "127.0.0.1",
        port,
        lifespan=feed,
        ready=lambda server: print(server.sockets[0].getsockname()[1], flush=True),
    )
