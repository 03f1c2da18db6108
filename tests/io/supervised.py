"""Servers with workers, as processes of their own; what they log, and clients that go round them."""

import asyncio
import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time

from peers import LIMIT

import fastws

HANDLERS = """
import os

import fastws

VERSION = 1


class Echo(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)


class Who(fastws.Handler):
    def on_open(self, ws):
        ws.send(f"{fastws.worker_id()} {os.getpid()} {VERSION}")

    def on_message(self, ws, message):
        ws.send(message)


class Room(fastws.Handler):

    def on_open(self, ws):
        ws.subscribe("room")
        ws.send(f"{fastws.worker_id()} {os.getpid()} {VERSION}")

    def on_message(self, ws, message):
        ws.server.publish("room", message)
"""


class Process:
    """A process that logs to standard error; `line` is the first of its standard output."""

    def __init__(self, command, cwd, **options):
        self.popen = subprocess.Popen(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.pid = self.popen.pid
        self.lines = queue.Queue()
        self.log = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.line = self.popen.stdout.readline()

    def _read(self):
        for line in self.popen.stderr:
            self.lines.put(line)
        self.lines.put(None)

    @property
    def uri(self):
        return re.search(r"wss?://\S+", self.line)[0]

    @property
    def port(self):
        return int(self.uri.rpartition(":")[2])

    def signal(self, number):
        os.kill(self.pid, number)

    def until_logged(self, text):
        """Wait for a line with `text` in it, and return it; lines before that are passed over."""
        end = time.monotonic() + LIMIT
        while (line := self.lines.get(timeout=max(0.01, end - time.monotonic()))) is not None:
            self.log.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not logged, but {''.join(self.log)}")

    def wait(self, limit=LIMIT):
        return self.popen.wait(limit)

    def rest(self):
        """Return what it logged up to its end."""
        while (line := self.lines.get(timeout=LIMIT)) is not None:
            self.log.append(line)
        return "".join(self.log)


@contextlib.contextmanager
def process(command, cwd, **options):
    one = Process(command, cwd, **options)
    try:
        yield one
    finally:
        for pid in children(one.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if one.popen.poll() is None:
            one.popen.terminate()
            try:
                one.popen.wait(LIMIT)
            except subprocess.TimeoutExpired:
                one.popen.kill()
        one.popen.wait()
        one.popen.stdout.close()
        one._reader.join(LIMIT)
        one.popen.stderr.close()


def serving(place, *args, workers=2, environment=(), **options):
    """Run the command line in the folder `place`, which gets the handlers above if it has none."""
    if not (place / "handlers.py").exists():
        (place / "handlers.py").write_text(HANDLERS)
    port = () if "--unix" in args else ("--port", 0)
    command = [sys.executable, "-m", "fastws", "serve", *args, *port, "--workers", workers]
    # Else code that is written within a second of the last is taken for the same.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **dict(environment)}
    return process([str(part) for part in command], place, env=env, **options)


def children(pid):
    """Return the process ids of the children of a process."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as listing:
            return [int(one) for one in listing.read().split()]
    except OSError:
        return []


def is_gone(pid):
    """Tell whether a process is no more; one that nobody has waited for counts."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextlib.asynccontextmanager
async def client(uri, **options):
    async with fastws.connect(uri, proxy=None, **options) as ws:
        yield ws


async def who(uri):
    """Connect, and return which worker, process and version of the code answers."""
    async with client(uri) as ws:
        number, pid, version = (await ws.recv()).split()
        return int(number), int(pid), int(version)


async def one_of_each(stack, uri, count):
    """Return a connection to each of `count` workers, by number, with its process id."""
    found = {}
    for _ in range(200):
        ws = await stack.enter_async_context(client(uri))
        number, pid, _ = (await ws.recv()).split()
        if int(number) in found:
            await ws.close()
        else:
            found[int(number)] = (ws, int(pid))
        if len(found) == count:
            return found
    raise AssertionError(f"only {sorted(found)} of {count} workers answer")


def bounded(main):
    return asyncio.run(asyncio.wait_for(main, LIMIT))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)
