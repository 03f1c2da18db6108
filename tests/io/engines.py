"""Engines for backplanes, in processes of their own: what stops, starts and pauses them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from peers import LIMIT

COMMANDS = {
    "redis": lambda port, folder: [
        *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--save", "", "--appendonly", "no"),
    ],
    "nats": lambda port, folder: [
        *(
            "nats-server",
            "--addr",
            "127.0.0.1",
            "--port",
            str(port),
            "--jetstream",
            "--store_dir",
            str(folder),
        ),
    ],
}


def needs(name):
    """Skip without the engine; where everything has to be there, fail."""
    program = COMMANDS[name](0, "")[0]
    if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Engine:
    """A running redis-server or nats-server. It keeps its port when it is started again."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.port = free_port()
        self.url = f"{name}://127.0.0.1:{self.port}"
        self.process = None

    def start(self, *options):
        environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
        self.process = subprocess.Popen(
            [*COMMANDS[self.name](self.port, self.folder), *options],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    sock.sendall(b"PING\r\n")
                    assert sock.recv(1)
                    return
            except (OSError, AssertionError):
                assert self.process.poll() is None, f"{self.name} has ended"
                assert time.monotonic() < deadline, f"{self.name} does not answer"
                time.sleep(0.01)

    def stop(self):
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait(LIMIT)
            self.process = None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
