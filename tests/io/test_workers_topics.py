"""Topics of workers: what one publishes and keeps, and who gets it, also while one is replaced."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile

import pytest
from supervised import bounded, children, client, is_gone, one_of_each, process, serving, until

KEEPING = """
import asyncio, json, logging, os, time
import fastws

logging.basicConfig(level=logging.INFO)


class Keeper(fastws.Handler):
    '''Publishes what comes, and that a connection ends; what is kept goes to who says since when.'''

    def on_open(self, ws):
        ws.subscribe("live")
        ws.send(str(os.getpid()))

    def on_message(self, ws, message):
        if message.startswith("{"):
            subscribed = ws.subscribe("news", since=json.loads(message))
            ws.send(json.dumps([subscribed.positions, *subscribed]))
        else:
            ws.send(json.dumps({ws.server.epoch: ws.server.publish("news", message).sequence}))

    def on_close(self, ws, code, reason):
        ws.server.publish("live", f"closed with {code}")


def declare(server):
    # Others hear late of what is declared.
    asyncio.get_running_loop().call_soon(time.sleep, 0.5)
    server.topic("news", history=10)


say = lambda line: print(line, flush=True)
fastws.run(Keeper(), port=0, workers=1, started=say, ready=declare)
"""


@contextlib.asynccontextmanager
async def client_of_another(uri, pid):
    """A client of a worker that is not this one, which may accept for a moment still."""
    while True:
        async with client(uri) as ws:
            ws.pid = int(await ws.recv())
            if ws.pid != pid:
                yield ws
                return


async def replaced(server):
    server.signal(signal.SIGHUP)
    await asyncio.to_thread(server.until_logged, "replacing the workers")
    await asyncio.to_thread(server.until_logged, "is ready")


def test_one_worker_keeps_history_over_sighup(tmp_path):
    (tmp_path / "main.py").write_text(KEEPING)
    with process([sys.executable, "main.py"], tmp_path) as server:

        async def main():
            async with client(server.uri) as ws:
                pid = int(await ws.recv())
                await ws.send("one")
                since = await ws.recv()
                await ws.send("two")
                await ws.recv()
            # Nobody is connected: it ends as soon as it may.
            await replaced(server)
            async with client_of_another(server.uri, pid) as ws:
                await ws.send(since)
                assert await ws.recv() == "two"

        bounded(main())


def test_positions_stay_complete_when_the_worker_that_gave_them_has_published_nothing(tmp_path):
    (tmp_path / "main.py").write_text(KEEPING)
    with process([sys.executable, "main.py"], tmp_path) as server:

        async def main():
            async with client(server.uri) as ws:
                pid = int(await ws.recv())
                await ws.send("one")
                since = json.loads(await ws.recv())
            for _ in range(2):
                await replaced(server)
                async with client_of_another(server.uri, pid) as ws:
                    await ws.send(json.dumps(since))
                    positions, *subscribed = json.loads(await ws.recv())
                    assert subscribed == [0, 0, True]
                    # The worker that was asked has a place of its own, besides who published.
                    assert len(positions) == 2
                    since = positions
                    pid = ws.pid

        bounded(main())


def test_what_one_worker_publishes_while_it_drains_reaches_the_subscribers_of_its_replacement(tmp_path):
    (tmp_path / "main.py").write_text(KEEPING)
    with process([sys.executable, "main.py"], tmp_path) as server:

        async def main():
            async with client(server.uri) as first:
                pid = int(await first.recv())
                await replaced(server)
                async with client_of_another(server.uri, pid) as second:
                    await first.wait_closed()
                    assert await second.recv() == "closed with 1001"

        bounded(main())


@pytest.mark.parametrize("workers", [1, 3])
def test_the_sockets_between_workers_are_in_a_directory_that_goes_with_them(tmp_path, workers):
    with (
        tempfile.TemporaryDirectory() as home,
        serving(tmp_path, "handlers:Room", workers=workers, environment={"TMPDIR": home}) as server,
    ):
        assert [name[:7] for name in os.listdir(home)] == ["fastws-"]
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.rest()
        assert os.listdir(home) == []


def test_what_one_worker_publishes_reaches_the_subscribers_of_all(tmp_path):
    with serving(tmp_path, "handlers:Room", workers=3) as server:

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                found = await one_of_each(stack, server.uri, 3)
                everybody = [ws for ws, _ in found.values()]
                # The workers find each other a moment after they serve.
                for number in itertools.count():
                    await everybody[0].send(f"is anybody there? {number}")
                    with contextlib.suppress(asyncio.TimeoutError):
                        for ws in everybody[1:]:
                            await asyncio.wait_for(ws.recv(), 0.2)
                        break
                for number, ws in found.items():
                    await ws[0].send(f"from {number}")
                for ws in everybody:
                    wanted = {f"from {number}" for number in found}
                    while wanted:
                        wanted.discard(await ws.recv())

        bounded(main())


def test_workers_that_shall_not_share_topics_do_not(tmp_path):
    with serving(tmp_path, "handlers:Room", "--backplane", "", workers=2) as server:

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                (one, _), (other, _) = (await one_of_each(stack, server.uri, 2)).values()
                await one.send("news")
                assert await one.recv() == "news"
                await other.send("own")
                assert await other.recv() == "own"

        bounded(main())


LARGE = """
import asyncio, logging, os, time
import fastws, fastws.backplane.among_workers
from fastws.backplane import links, local

logging.basicConfig(level=logging.INFO)
fastws.backplane.LIMIT = 100_000
{patch}
catch_up = links.Outlet._catch_up


def slowly(outlet, parts, free):
    time.sleep(0.05)
    catch_up(outlet, parts, free)


links.Outlet._catch_up = slowly


def on_message(ws, message):
    if message.isdigit():
        for number in range(int(message)):
            ws.server.publish("news", "x" * 1000)
    ws.send(f"{{os.getpid()}} {{len(ws.server._topics.find('news').kept.entries()[0])}}")


say = lambda line: print(line, flush=True)
declare = lambda server: server.topic("news", history=3000)
fastws.run(None, port=0, workers=1, on_message=on_message, started=say, ready=declare)
"""


@pytest.mark.parametrize(
    "patch",
    ["local.STILL = local.ENDING = 0.01", "fastws.backplane.among_workers.SETTLED = 0.01"],
    ids=["its replacement waits", "it waits itself"],
)
def test_a_history_that_takes_seconds_to_go_over_is_whole_at_the_replacement(tmp_path, patch):
    (tmp_path / "main.py").write_text(LARGE.format(patch=patch))
    with process([sys.executable, "main.py"], tmp_path) as server:

        async def main():
            async with client(server.uri) as ws:
                await ws.send("3000")
                pid, count = (await ws.recv()).split()
                assert count == "3000"
            await replaced(server)
            await until(lambda: is_gone(int(pid)))
            async with client(server.uri) as ws:
                count = None
                while count != "3000":
                    await ws.send("?")
                    pid, count = (await ws.recv()).split()

        bounded(main())


def test_the_last_worker_of_a_supervisor_that_was_killed_removes_the_directory_between_them(tmp_path):
    with (
        tempfile.TemporaryDirectory() as home,
        serving(tmp_path, "handlers:Room", workers=3, environment={"TMPDIR": home}) as server,
    ):
        workers = children(server.pid)
        assert len(workers) >= 3
        server.signal(signal.SIGKILL)
        bounded(until(lambda: all(is_gone(pid) for pid in workers)))
        assert os.listdir(home) == []
