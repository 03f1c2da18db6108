import asyncio
import contextlib
import itertools
import os

import pytest
import uvloop
from peers import LIMIT
from uvicorn_process import SERVERS, uvicorn

from fastws import log, transports

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
numbers = itertools.count()


@pytest.fixture(autouse=True)
def unlimited_log():
    """Let no test's log records count towards the rate limit of the next."""
    log._seen.clear()


@pytest.fixture(params=["asyncio", "uvloop", "asyncio-streams", "uvloop-streams"])
def run(request, monkeypatch):
    """
    Run a coroutine function in a new loop: its exception handler hears nothing, no descriptor stays.

    Servers and clients of ours are on a reactor, or on the loop's own transports.
    """
    name, _, transport = request.param.partition("-")
    new_event_loop = LOOPS[name]
    monkeypatch.setattr(transports, "default", transport or "reactor")

    def runner(main):
        unheard = []
        # What a kind of loop opens once and keeps, its thread pool's descriptors say, is not ours.
        first = new_event_loop()
        first.run_until_complete(first.getaddrinfo("127.0.0.1", 1))
        first.close()
        before = len(os.listdir("/proc/self/fd"))
        loop = new_event_loop()
        try:
            loop.set_exception_handler(lambda _loop, context: unheard.append(context))
            loop.run_until_complete(asyncio.wait_for(main(), LIMIT))
        finally:
            loop.close()
        assert unheard == []
        assert len(os.listdir("/proc/self/fd")) == before

    return runner


# ---------------------------------------------------------------- uvicorn in processes of its own


@pytest.fixture(scope="session")
def servers():
    """Give a function that starts a server when it is first asked for."""
    running = {}
    with contextlib.ExitStack() as stack:

        def find(name):
            if name not in running:
                ws, loop, http = SERVERS[name]
                options = ("--loop", loop, "--http", http, "--lifespan", "on", "--header", "x-default:yes")
                running[name] = stack.enter_context(uvicorn("asgi_apps:bare", *options, ws=ws))
            return running[name]

        yield find


@pytest.fixture(params=SERVERS)
def server(request, servers):
    """A server with either implementation: what a test says of it holds for both."""
    return servers(request.param)


@pytest.fixture(params=[name for name in SERVERS if "fastws" in name])
def ours(request, servers):
    return servers(request.param)


@pytest.fixture
def name():
    """An id for the notes of an application."""
    return f"n{next(numbers)}"
