"""
Workers, measured: how connections spread, and what clients notice when one is killed or all are replaced.

    python benchmarks/workers.py spread     # 20,000 connections to 4 workers: how many each gets
    python benchmarks/workers.py queued     # 400 wait for a worker that is killed: how many are answered
    python benchmarks/workers.py sighup     # 2,000 echoing clients while all workers are replaced
    python benchmarks/workers.py sigkill    # and while one is killed

It needs Linux, and descriptors: `ulimit -n 20000`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import fastws

LIMIT = 60.0
IP_BIND_ADDRESS_NO_PORT = 24  # of <linux/in.h>
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# Counts what it has echoed; a worker's count is written at its end.
SERVER = """
import contextlib, logging, os, pathlib, sys
import fastws

class Handler(fastws.Handler):
    count = 0

    def on_open(self, ws):
        ws.send(f"{fastws.worker_id()} {os.getpid()}")

    def on_message(self, ws, message):
        ws.send(message)
        Handler.count += 1

@contextlib.asynccontextmanager
async def counted(server):
    yield
    pathlib.Path(f"echoed.{os.getpid()}").write_text(str(Handler.count))

if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    fastws.run(Handler, port=0, workers=int(sys.argv[1]), lifespan=counted, ping_interval=None,
               started=lambda line: print(line, flush=True))
"""
# What the supervisor is for: here each process has a socket of its own.
OWN_SOCKETS = """
import asyncio, contextlib, os, sys
import fastws

async def main(port):
    async with fastws.serve(on_open=lambda ws: ws.send(f"{me} {os.getpid()}"), on_message=lambda ws, _: None,
                            host="127.0.0.1", port=port, reuse_port=True):
        if me == 0:
            print(f"at ws://127.0.0.1:{port}", flush=True)
        await asyncio.Event().wait()

port = int(sys.argv[1])
me = 0 if os.fork() else 1
asyncio.run(main(port))
"""


@contextlib.contextmanager
def serving(workers, source=SERVER, argument=None):
    """Run a server; give the process, its port, and the folder that it is in."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "server.py").write_text(source)
        env = {**os.environ, "PYTHONPATH": str(pathlib.Path(fastws.__file__).parents[1])}
        with open(folder / "log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, "server.py", str(argument or workers)],
                cwd=folder,
                env=env,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            try:
                line = process.stdout.readline()
                yield process, int(re.search(r"ws://127\.0\.0\.1:(\d+)", line)[1]), folder
            finally:
                process.terminate()
                process.wait(LIMIT)


def connect(port, source="127.0.0.1"):
    sock = socket.socket()
    sock.settimeout(LIMIT)
    # The port is chosen when both ends are known: else those in TIME_WAIT count, and the search takes long.
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    sock.sendall(HANDSHAKE)
    return sock


def greeting(sock):
    """Return the worker and the process that answered."""
    data = b""
    while (
        b"\r\n\r\n" not in data or len(rest := data.partition(b"\r\n\r\n")[2]) < 2 or len(rest) < 2 + rest[1]
    ):
        piece = sock.recv(4096)
        if not piece:
            raise ConnectionResetError
        data += piece
    number, pid = rest[2 : 2 + rest[1]].split()
    return int(number), int(pid)


def spread(count=20_000, workers=4):
    """Open connections from two processes, since each may have 20,000 descriptors."""
    with serving(workers) as (_, port, _):
        totals = collections.Counter()
        halves = [os.pipe() for _ in range(2)]
        go, hold = os.pipe()
        begin = time.monotonic()
        children = []
        for i, (_, write) in enumerate(halves):
            children.append(os.fork())
            if children[-1] == 0:
                os.close(hold)
                socks, found = [], collections.Counter()
                for _ in range(count // 2):
                    socks.append(connect(port, f"127.0.0.{2 + i}"))
                    found[greeting(socks[-1])[0]] += 1
                os.write(write, json.dumps(found).encode())
                os.read(go, 1)  # all stay open until the last one is
                os._exit(0)
            os.close(write)
        for read, _ in halves:
            totals.update({int(k): v for k, v in json.loads(os.read(read, 4096)).items()})
        took = time.monotonic() - begin
        os.close(hold)
        for child in children:
            os.waitpid(child, 0)
    each = [totals[i] for i in range(workers)]
    mean = count / workers
    print(f"{count} connections to {workers} workers in {took:.1f} s: {each}")
    print(f"most {max(each) / mean:.3f} and least {min(each) / mean:.3f} of the mean")


def queued(count=400):
    """Stop a worker, let connections come, kill it: how many of those that waited for it are answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, source, argument in (("kept by a supervisor", SERVER, 2), ("of its own", OWN_SOCKETS, port)):
        with serving(2, source, argument) as (_, found, _):
            pids = {}
            while len(pids) < 2:
                with connect(found) as sock:
                    worker, pid = greeting(sock)
                    pids[worker] = pid
            os.kill(pids[1], signal.SIGSTOP)
            socks = [connect(found) for _ in range(count)]
            # Whoever the running worker has answered did not wait.
            time.sleep(1)
            waiting = []
            for sock in socks:
                sock.setblocking(False)
                try:
                    sock.recv(1, socket.MSG_PEEK)
                except BlockingIOError:
                    waiting.append(sock)
                sock.settimeout(10)
            os.kill(pids[1], signal.SIGKILL)
            begin = time.monotonic()
            ends = collections.Counter()
            for sock in waiting:
                try:
                    ends["answered" if greeting(sock) else ""] += 1
                except OSError as error:
                    ends[type(error).__name__] += 1
            took = time.monotonic() - begin
            for sock in socks:
                sock.close()
        print(f"sockets {name}: {len(waiting)} waited for the worker that died, {dict(ends)} in {took:.2f} s")


class Clients:
    """Echoing clients in one process; what happens to them is counted."""

    def __init__(self, port, count):
        self.uri = f"ws://127.0.0.1:{port}"
        self.count = count
        self.over = False
        self.counts = collections.Counter()
        self.longest = 0.0

    async def one(self):
        counts = self.counts
        lost_at = None
        while not self.over:
            unanswered = False
            ws = None
            try:
                async with fastws.connect(self.uri, proxy=None, ping_interval=None, compression=None) as ws:
                    await ws.recv()
                    counts["opened"] += 1
                    if lost_at is not None:
                        self.longest = max(self.longest, time.monotonic() - lost_at)
                    while not self.over:
                        await ws.send("x" * 64)
                        unanswered = True
                        await ws.recv()
                        unanswered = False
                        counts["echoed"] += 1
                        await asyncio.sleep(random.uniform(0.5, 1.5))
            except fastws.ConnectionClosed:
                lost_at = time.monotonic()
                counts[f"closed with {ws.close_code}"] += 1
                counts[f"unanswered at {ws.close_code}"] += unanswered
            except ConnectionRefusedError:
                counts["refused"] += 1
            except (OSError, fastws.InvalidHandshake) as error:
                counts[f"opening failed: {type(error).__name__}"] += 1

    async def run(self):
        loop = asyncio.get_running_loop()
        tasks = []
        for i in range(self.count):
            tasks.append(asyncio.ensure_future(self.one()))
            if i % 20 == 19:
                await asyncio.sleep(0.02)
        while self.counts["opened"] < self.count:
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        self.over = True
        await asyncio.gather(*tasks)
        print(json.dumps({**self.counts, "longest away": round(self.longest, 2)}), flush=True)


def under_traffic(number, workers=2, count=2000):
    with serving(workers) as (process, port, folder):
        command = [sys.executable, __file__, "clients", str(port), str(count // 2)]
        halves = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for half in halves:
            assert half.stdout.readline() == "ready\n"
        time.sleep(2)
        begin = time.monotonic()
        if number == signal.SIGHUP:
            process.send_signal(number)
            while "are replaced" not in (folder / "log").read_text():
                time.sleep(0.05)
        else:
            with connect(port) as sock:
                _, victim = greeting(sock)
            os.kill(victim, number)
            while (folder / "log").read_text().count("is ready") < workers + 1:
                time.sleep(0.005)
        took = time.monotonic() - begin
        time.sleep(3)
        totals, longest = collections.Counter(), 0.0
        for half in halves:
            out, _ = half.communicate("\n", LIMIT)
            counts = json.loads(out)
            longest = max(longest, counts.pop("longest away"))
            totals.update(counts)
        process.terminate()
        process.wait(LIMIT)
        handled = sum(int(one.read_text()) for one in folder.glob("echoed.*"))
        name = signal.Signals(number).name
        print(f"{name} with {count} clients and {workers} workers: done after {took:.2f} s")
        for what in sorted(totals):
            print(f"  {what}: {totals[what]}")
        print(f"  longest until a client was back: {longest:.2f} s")
        print(f"  echoed by the workers that have ended by themselves: {handled}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["spread", "queued", "sighup", "sigkill", "clients"])
    parser.add_argument("more", nargs="*", type=int)
    given = parser.parse_args()
    if given.what == "spread":
        spread(*given.more)
    elif given.what == "queued":
        queued(*given.more)
    elif given.what == "clients":
        asyncio.run(Clients(*given.more).run())
    else:
        under_traffic(getattr(signal, given.what.upper()), *given.more)
