import asyncio
import contextlib
import itertools
import os
import sys

import over_tls
import pytest
import uvloop
from peers import LIMIT
from uvicorn_process import SERVERS, uvicorn

from fastws import log, transports

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
PLAIN = ["asyncio", "uvloop", "asyncio-streams", "uvloop-streams"]
TLS = ["uvloop-tls", "uvloop-streams-tls"]
numbers = itertools.count()


@pytest.fixture(autouse=True)
def unlimited_log():
    """Let no test's log records count towards the rate limit of the next."""
    log._seen.clear()


def pytest_configure(config):
    config.addinivalue_line("markers", "without_tls(reason): what a test, or a module, says is not for TLS")
    if sys.version_info < (3, 11):
        # The transports of asyncio's clients warn when they are collected, though closed by the peer.
        ignored = "ignore:.*_SSLProtocolTransport.__del__:pytest.PytestUnraisableExceptionWarning"
        config.addinivalue_line("filterwarnings", ignored)


def pytest_generate_tests(metafunc):
    """Choose what `run` runs on, unless the test does so itself."""
    chosen = any(mark.args[0] == "run" for mark in metafunc.definition.iter_markers("parametrize"))
    if "run" in metafunc.fixturenames and not chosen:
        exempt = metafunc.definition.get_closest_marker("without_tls")
        metafunc.parametrize("run", PLAIN if exempt else PLAIN + TLS, indirect=True)


@pytest.fixture
def run(request, monkeypatch):
    """
    Run a coroutine function in a new loop: its exception handler hears nothing, no descriptor stays.

    Servers and clients of ours are on a reactor, or on the loop's own transports; with TLS, see `over_tls`.
    """
    name, *how = request.param.split("-")
    new_event_loop = over_tls.Loop if "tls" in how else LOOPS[name]
    monkeypatch.setattr(transports, "default", "streams" if "streams" in how else "reactor")
    if "tls" in how:
        over_tls.install(monkeypatch)

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
        # Fewer, when what an earlier test has left to the collector is closed meanwhile.
        assert len(os.listdir("/proc/self/fd")) <= before

    return runner


@pytest.fixture
def no_proxies(monkeypatch):
    """Let clients know of no proxy but those that a test names."""
    for kind in ("ws", "wss", "http", "https", "socks", "all", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_proxy".upper(), raising=False)


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
