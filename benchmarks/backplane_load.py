"""What a message costs each process that it passes, by backplane and number of servers that want it.

    python benchmarks/backplane_load.py [local redis nats]

One server publishes 64 bytes at a steady rate; 1, 2 and 4 others have a subscriber each, whose other ends are
in a process of their own. Processor time is that of the kernel and the program. Then, over an engine, it
publishes as fast as the engine takes it, two others subscribing. Believe the figures of an idle machine only:
the first line has its load.
"""

import asyncio
import contextlib
import itertools
import os
import pathlib
import selectors
import socket
import subprocess
import sys
import time

import uvloop
from backplane import HANDSHAKE, deliver, until
from engines import NAMES, engine, machine

import fastws

SERVERS = [1, 2, 4]
RATE = 4000  # a second
SECONDS = 4.0
TICK = 0.002
IN_FLIGHT = 2000
LIMIT = 60  # seconds for one measurement

PAYLOAD = "x" * 64
SIZE = 66  # with its frame's header
TICKS = os.sysconf("SC_CLK_TCK")


def sink(ports):
    """Hold the subscribers: read what comes, and say how many messages each got, when asked with a line."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    counts = {}
    for port in ports:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(HANDSHAKE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        counts[sock] = 0
        selector.register(sock, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                if not sys.stdin.readline():
                    return
                print(*(count // SIZE for count in counts.values()), flush=True)
                continue
            counts[key.fileobj] += len(key.fileobj.recv(1 << 20))


def cpu(pid):
    """Return the seconds of processor time that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def child(*arguments):
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def steadily(server):
    start = time.perf_counter()
    count = 0
    while (passed := time.perf_counter() - start) < SECONDS:
        while count < passed * RATE:
            server.publish("x", PAYLOAD)
            count += 1
        await asyncio.sleep(TICK)
    return count


async def at_most(server):
    stats = server.backplane.stats
    end = time.perf_counter() + SECONDS
    count, before = 0, stats.sent
    while time.perf_counter() < end:
        while count - (stats.sent - before) < IN_FLIGHT:
            server.publish("x", PAYLOAD)
            count += 1
        await asyncio.sleep(0)
    await until(lambda: stats.sent - before >= count)
    return count


async def settled(client, count):
    """Return how many messages each subscriber got, when all have come, or no more do."""
    loop = asyncio.get_running_loop()
    before = None
    while True:
        client.stdin.write("how many\n")
        client.stdin.flush()
        came = [int(one) for one in (await loop.run_in_executor(None, client.stdout.readline)).split()]
        if came == before or min(came) >= count:
            return came
        before = came
        await asyncio.sleep(0.3)


async def measure(url, servers, publishing, engine_pid):
    """Return messages, seconds, and the processor time of the publisher, the engine and the other servers."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(child("deliver", url)) for _ in range(servers)]
        stack.callback(lambda: [one.stdin.close() for one in others])
        async with fastws.serve(on_message=print, host="127.0.0.1", port=0, backplane=url) as server:
            ports = [await loop.run_in_executor(None, one.stdout.readline) for one in others]
            client = stack.enter_context(child("sink", *(int(port) for port in ports)))
            stack.callback(client.stdin.close)
            assert await loop.run_in_executor(None, client.stdout.readline) == "ready\n"
            for one in others:
                one.stdin.write("go\n")
                one.stdin.flush()
                assert await loop.run_in_executor(None, one.stdout.readline) == "ready\n"
            await until(lambda: len(server.backplane.roster.others) == servers)
            pids = [os.getpid(), engine_pid, *(one.pid for one in others)]
            before = [0.0 if pid is None else cpu(pid) for pid in pids]
            start = time.perf_counter()
            count = await publishing(server)
            seconds = time.perf_counter() - start
            came = await settled(client, count)
            used = [0.0 if pid is None else cpu(pid) - was for pid, was in zip(pids, before, strict=True)]
    if min(came) < count:
        print(f"of {count} messages came {came}")
    return count, seconds, used


def main(names):
    print(machine())
    print(f"{len(PAYLOAD)} bytes; microseconds of processor time for each message published")
    print(f"{'':8}{'servers':>8}{'a second':>10}    ours  engine  others")
    for name in names:
        ways = [steadily] if name == "local" else [steadily, at_most]
        for publishing, servers in itertools.product(ways, SERVERS):
            with engine(name) as (url, pid):
                if url is None:
                    print(f"{name:8} not installed")
                    break
                made = uvloop.run(asyncio.wait_for(measure(url, servers, publishing, pid), LIMIT))
            count, seconds, (own, engines, *others) = made
            figures = [f"{1e6 * used / count:8.1f}" for used in (own, engines, sum(others) / len(others))]
            print(f"{name:8}{servers:8}{count / seconds:10.0f}", *figures, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["deliver"]:
        uvloop.run(deliver(sys.argv[2]))
    elif sys.argv[1:2] == ["sink"]:
        sink([int(port) for port in sys.argv[2:]])
    else:
        main(sys.argv[1:] or NAMES)
