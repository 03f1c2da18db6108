"""How long a message takes from `publish` in one process to a subscriber's socket at another, by backplane.

    python benchmarks/backplane.py [local redis nats]

Two processes, a server each: one publishes 64 bytes at a steady rate, the other has one subscriber. The
publisher holds the subscriber's other end as a plain socket, so one clock times both ends. Engines are
started on free ports, and left out where they are not installed. Believe the figures of an idle machine only:
the first line has its load.
"""

import asyncio
import statistics
import subprocess
import sys
import time

import uvloop
from engines import NAMES, engine, machine

import fastws

MESSAGES = 5000
RATE = 1000  # a second
WARM_UP = 500
LIMIT = 60  # seconds for one backplane

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def deliver(url):
    """The second process: serve until standard input ends."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with fastws.serve(
        on_open=lambda ws: ws.subscribe("x"), host="127.0.0.1", port=0, backplane=url
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await commands.readline()
        await server.backplane.settle()
        print("ready", flush=True)
        await commands.read()


class Receiver(asyncio.Protocol):
    """Notes when which message came: 64 bytes behind a header of 2, which end with a number."""

    def __init__(self):
        self.opened = asyncio.get_running_loop().create_future()
        self.times = {}
        self.rest = b""

    def data_received(self, data):
        now = time.perf_counter()
        if not self.opened.done():
            data = data.partition(b"\r\n\r\n")[2]
            self.opened.set_result(None)
        data = self.rest + data
        while len(data) >= 66:
            self.times[int(data[2:66])] = now
            data = data[66:]
        self.rest = data


async def measure(url):
    """Return the latencies in seconds, sorted, and how many messages did not come."""
    loop = asyncio.get_running_loop()
    command = [sys.executable, __file__, "deliver", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            async with fastws.serve(on_message=print, host="127.0.0.1", port=0, backplane=url) as server:
                port = int(await loop.run_in_executor(None, process.stdout.readline))
                transport, receiver = await loop.create_connection(Receiver, "127.0.0.1", port)
                transport.write(HANDSHAKE)
                await receiver.opened
                process.stdin.write("go\n")
                process.stdin.flush()
                assert (await loop.run_in_executor(None, process.stdout.readline)) == "ready\n"
                await until(lambda: server.backplane.roster.others)
                sent = {}
                start = time.perf_counter()
                for number in range(MESSAGES + WARM_UP):
                    await asyncio.sleep(max(start + number / RATE - time.perf_counter(), 0))
                    sent[number] = time.perf_counter()
                    server.publish("x", f"{number:064}")
                await until(lambda: MESSAGES + WARM_UP - 1 in receiver.times)
                transport.close()
        finally:
            process.stdin.close()
            process.wait(10)
    latencies = sorted(came - sent[number] for number, came in receiver.times.items() if number >= WARM_UP)
    return latencies, MESSAGES - len(latencies)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def bench(name):
    with engine(name) as (url, _):
        return None if url is None else uvloop.run(asyncio.wait_for(measure(url), LIMIT))


def main(names):
    print(machine())
    print(f"{MESSAGES} messages of 64 bytes, {RATE} a second; microseconds from publish to the socket")
    print(f"{'':8}{'p50':>8}{'p99':>8}{'max':>8}{'mean':>8}{'lost':>6}")
    for name in names:
        result = bench(name)
        if result is None:
            print(f"{name:8} not installed")
            continue
        latencies, lost = result
        figures = [
            latencies[len(latencies) // 2],
            latencies[len(latencies) * 99 // 100],
            latencies[-1],
            statistics.fmean(latencies),
        ]
        print(f"{name:8}" + "".join(f"{1e6 * figure:8.0f}" for figure in figures) + f"{lost:6}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["deliver"]:
        uvloop.run(deliver(sys.argv[2]))
    else:
        main(sys.argv[1:] or NAMES)
