import asyncio
import os

import pytest
import uvloop
from peers import LIMIT

from fastws import log


@pytest.fixture(autouse=True)
def unlimited_log():
    """Let no test's log records count towards the rate limit of the next."""
    log._seen.clear()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine function in a new loop: its exception handler hears nothing, no descriptor stays."""

    def runner(main):
        unheard = []
        # What a kind of loop opens once and keeps, its thread pool's descriptors say, is not ours.
        first = request.param()
        first.run_until_complete(first.getaddrinfo("127.0.0.1", 1))
        first.close()
        before = len(os.listdir("/proc/self/fd"))
        loop = request.param()
        try:
            loop.set_exception_handler(lambda _loop, context: unheard.append(context))
            loop.run_until_complete(asyncio.wait_for(main(), LIMIT))
        finally:
            loop.close()
        assert unheard == []
        assert len(os.listdir("/proc/self/fd")) == before

    return runner
