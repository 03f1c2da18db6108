"""Engines of backplanes, started for a measurement on free ports, and stopped after it."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

NAMES = ["local", "redis", "nats"]


def machine():
    """Return what figures are to be read with: the processor, and how busy it is."""
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else 'unknown'}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def command_of(name, port, folder):
    if name == "redis":
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
    return ["nats-server", "--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", folder]


@contextlib.contextmanager
def engine(name):
    """Yield a URL, None when the engine is not installed, and its process id, None with `local`."""
    with tempfile.TemporaryDirectory() as folder:
        if name == "local":
            yield f"local://{folder}/b", None
            return
        port = free_port()
        command = command_of(name, port, folder)
        program = shutil.which(command[0], path=os.environ["PATH"] + ":/usr/sbin")
        if program is None:
            yield None, None
            return
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([program, *command[1:]], **quiet) as process:
            try:
                yield f"{name}://127.0.0.1:{port}", process.pid
            finally:
                process.terminate()
