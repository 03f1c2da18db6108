"""Workers: one port, several processes, and one that watches over them."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time

import pytest
from certificates import certificate_of, issue
from supervised import HANDLERS, bounded, children, client, one_of_each, process, serving, until, who

import fastws


def test_workers_share_a_port_and_know_their_numbers(tmp_path):
    with serving(tmp_path, "handlers:Who", workers=3) as server:
        assert " with 3 workers (kernels " in server.line

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                found = await one_of_each(stack, server.uri, 3)
                assert sorted(found) == [0, 1, 2]
                assert {pid for _, pid in found.values()} == set(children(server.pid))

        bounded(main())
    assert server.wait() == 0, server.rest()
    assert "Traceback" not in server.rest()


def test_each_worker_listens_on_every_address_of_a_name(tmp_path):
    with serving(tmp_path, "handlers:Who", "--host", "localhost") as server:
        uris = re.findall(r"ws://[^\s,]+", server.line)
        assert uris and len({uri.rpartition(":")[2] for uri in uris}) == 1

        async def main():
            for uri in uris:
                async with contextlib.AsyncExitStack() as stack:
                    assert sorted(await one_of_each(stack, uri, 2)) == [0, 1]

        bounded(main())


def test_a_process_that_is_no_worker_has_no_number():
    assert fastws.worker_id() is None


def test_a_worker_that_is_killed_is_replaced_and_the_others_notice_nothing(tmp_path):
    with serving(tmp_path, "handlers:Who") as server:

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                found = await one_of_each(stack, server.uri, 2)
                (victim, pid), (sibling, other) = found[0], found[1]
                os.kill(pid, signal.SIGKILL)
                killed = time.monotonic()
                await victim.wait_closed()
                # Every connection is answered; some by the new process, in time.
                while (answer := await who(server.uri))[1] == other:
                    pass
                assert time.monotonic() - killed < 5  # it takes some hundredths where the machine is idle
                assert answer[0] == 0 and answer[1] != pid
                await sibling.send("still here")
                assert await sibling.recv() == "still here"

        bounded(main())
        line = server.until_logged("was killed by SIGKILL")
        assert "worker 0" in line and "ERROR" in line


def test_connections_that_wait_at_a_worker_that_dies_are_answered_by_the_next(tmp_path):
    with serving(tmp_path, "handlers:Who") as server:

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                found = await one_of_each(stack, server.uri, 2)
                _, pid = found[0]
                os.kill(pid, signal.SIGSTOP)
                waiting = [asyncio.ensure_future(who(server.uri)) for _ in range(60)]
                # Those that hash to the other worker are done; the rest waits in the queue of this one.
                await asyncio.wait(waiting, timeout=1, return_when=asyncio.FIRST_COMPLETED)
                os.kill(pid, signal.SIGKILL)
                answers = await asyncio.gather(*waiting)
                assert {number for number, _, _ in answers} == {0, 1}
                assert pid not in {one for _, one, _ in answers}

        bounded(main())


def test_a_crash_loop_ends_with_a_non_zero_status_and_says_why(tmp_path):
    (tmp_path / "handlers.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    begin = time.monotonic()
    with serving(tmp_path, "handlers:Who", workers=1) as server:
        assert server.line == ""
        assert server.wait() == 1
    log = server.rest()
    assert log.count("worker 0 could not start: was killed by SIGKILL") == 5
    assert "Error: worker 0 could not start 5 times in a row: was killed by SIGKILL" in log
    assert time.monotonic() - begin > 3  # it has not been tried as fast as it goes


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (HANDLERS, "handlers:Nobody", "'handlers' has no 'Nobody'"),
        (HANDLERS, "nowhere:Who", "there is no module 'nowhere'"),
        ("import no_such_module", "handlers:Who", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys\nsys.exit('enough')", "handlers:Who", "SystemExit: enough"),
    ],
)
def test_what_cannot_start_at_all_ends_at_once(tmp_path, source, target, said):
    (tmp_path / "handlers.py").write_text(source)
    with serving(tmp_path, target) as server:
        assert server.line == ""
        assert server.wait() == 1
    log = server.rest()
    assert f"could not start: {said}" in log.splitlines()[-1]
    assert ("Traceback" in log) is (source not in (HANDLERS,) and "sys.exit" not in source)


def test_an_address_in_use_is_an_error_although_workers_share_theirs(tmp_path):
    with serving(tmp_path, "handlers:Who") as first:
        command = [sys.executable, "-m", "fastws", "serve", "handlers:Who", "--port", str(first.port)]
        with process([*command, "--workers", "2"], tmp_path) as second:
            assert second.wait() == 1
        assert f"cannot listen on 127.0.0.1 port {first.port}" in second.rest()


def test_sighup_replaces_all_workers_with_the_code_that_is_there_now(tmp_path):
    with serving(tmp_path, "handlers:Who") as server:
        before = set(children(server.pid))
        (tmp_path / "handlers.py").write_text(HANDLERS.replace("VERSION = 1", "VERSION = 2"))
        server.signal(signal.SIGHUP)
        server.until_logged("the workers are replaced")

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                found = await one_of_each(stack, server.uri, 2)
                assert {pid for _, pid in found.values()}.isdisjoint(before)
            assert (await who(server.uri))[2] == 2

        bounded(main())
        assert set(children(server.pid)).isdisjoint(before)


def test_sighup_takes_the_lifespan_that_is_there_now(tmp_path):
    def write(text):
        (tmp_path / "feeds.py").write_text(
            "import contextlib, logging\n\n\n"
            "@contextlib.asynccontextmanager\n"
            "async def feed(server):\n"
            f"    logging.info({text!r})\n"
            "    yield\n"
        )

    write("the first feed")
    with serving(tmp_path, "handlers:Echo", "--lifespan", "feeds:feed", workers=1) as server:
        server.until_logged("the first feed")
        write("the second feed")
        server.signal(signal.SIGHUP)
        server.until_logged("the second feed")


def test_sighup_with_code_that_is_broken_leaves_the_workers_as_they_were(tmp_path):
    with serving(tmp_path, "handlers:Who") as server:
        before = set(children(server.pid))
        (tmp_path / "handlers.py").write_text("broken(")
        server.signal(signal.SIGHUP)
        server.until_logged("the workers stay as they were")
        assert set(children(server.pid)) == before
        assert bounded(who(server.uri))[2] == 1
        # And it goes on: repaired, they are replaced.
        (tmp_path / "handlers.py").write_text(HANDLERS.replace("VERSION = 1", "VERSION = 3"))
        server.signal(signal.SIGHUP)
        server.until_logged("the workers are replaced")
        assert bounded(who(server.uri))[2] == 3


def test_sighup_reads_the_certificate_again(tmp_path):
    first = issue(tmp_path)
    args = ("handlers:Who", "--certfile", "chain.pem", "--keyfile", "key.pem")
    with serving(tmp_path, *args) as server:
        assert certificate_of(server.port) == first
        second = issue(tmp_path)
        server.signal(signal.SIGHUP)
        server.until_logged("the workers are replaced")
        assert {certificate_of(server.port) for _ in range(8)} == {second}


def test_sighup_under_traffic_refuses_no_connection_and_loses_no_message(tmp_path):
    """What handlers were given was answered, and the answers came; connections ended with 1001."""
    counting = HANDLERS + (
        "import pathlib\n"
        "class Counting(fastws.Handler):\n"
        "    count = 0\n"
        "    def on_message(self, ws, message):\n"
        "        ws.send(message)\n"
        "        Counting.count += 1\n"
        "    def on_close(self, ws, code, reason):\n"
        "        pathlib.Path(f'count.{os.getpid()}').write_text(str(Counting.count))\n"
    )
    (tmp_path / "handlers.py").write_text(counting)
    with serving(tmp_path, "handlers:Counting") as server:
        over = False
        received, codes, refused = 0, [], []

        async def echo():
            nonlocal received
            while not over:
                try:
                    async with client(server.uri, ping_interval=None) as ws:
                        for i in range(1_000_000):
                            if over:
                                break
                            await ws.send(str(i))
                            assert await ws.recv() == str(i)
                            received += 1
                except fastws.ConnectionClosed:
                    codes.append(ws.close_code)
                except (OSError, fastws.InvalidHandshake) as error:
                    refused.append(error)

        async def main():
            nonlocal over
            clients = [asyncio.ensure_future(echo()) for _ in range(100)]
            await until(lambda: received > 1000)
            server.signal(signal.SIGHUP)
            await asyncio.to_thread(server.until_logged, "the workers are replaced")
            enough = received + 1000
            await until(lambda: received > enough)
            over = True
            await asyncio.gather(*clients)

        bounded(main())
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.rest()
    assert refused == []
    assert set(codes) == {1001} and len(codes) >= 100
    assert sum(int(one.read_text()) for one in tmp_path.glob("count.*")) == received


def test_workers_that_were_stopped_together_with_their_supervisor_are_not_stuck(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "main.py").write_text(
        "import fastws, logging\n"
        "logging.basicConfig()\n"
        "say = lambda line: print(line, flush=True)\n"
        "fastws.run('handlers:Who', port=0, workers=1, stall_timeout=2, started=say)\n"
    )
    with process([sys.executable, "main.py"], tmp_path) as server:
        (pid,) = children(server.pid)
        for one in (server.pid, pid):
            os.kill(one, signal.SIGSTOP)
        time.sleep(3.5)
        server.signal(signal.SIGCONT)
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)
        assert bounded(who(server.uri))[1] == pid
    assert "stuck" not in server.rest()


def test_a_worker_that_is_stuck_is_replaced(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "main.py").write_text(
        "import fastws, logging\n"
        "logging.basicConfig()\n"
        "say = lambda line: print(line, flush=True)\n"
        "fastws.run('handlers:Who', port=0, workers=1, stall_timeout=2, started=say)\n"
    )
    with process([sys.executable, "main.py"], tmp_path) as server:
        pid = children(server.pid)[0]
        os.kill(pid, signal.SIGSTOP)
        server.until_logged(f"process {pid} is stuck")
        assert bounded(who(server.uri))[1] != pid


def test_a_worker_that_is_stuck_before_its_first_sign_of_life_is_replaced(tmp_path):
    (tmp_path / "main.py").write_text(
        "import fastws, fastws.workers, logging, time\n"
        "logging.basicConfig()\n"
        "fastws.workers.Duty._live = lambda self: time.sleep(3600)\n"
        "say = lambda line: print(line, flush=True)\n"
        "fastws.run(fastws.Handler(), port=0, workers=1, stall_timeout=1, started=say)\n"
    )
    with process([sys.executable, "main.py"], tmp_path) as server:
        (pid,) = children(server.pid)
        server.until_logged(f"process {pid} is stuck")


def test_workers_share_a_unix_socket_which_is_removed_at_the_end(tmp_path):
    path = tmp_path / "socket"
    with serving(tmp_path, "handlers:Echo", "--unix", path) as server:
        assert server.line.startswith(f"fastws listens on unix:{path} with 2 workers")

        async def main():
            async with fastws.unix_connect(str(path)) as ws:
                await ws.send("x")
                assert await ws.recv() == "x"

        bounded(main())
        server.signal(signal.SIGHUP)
        server.until_logged("the workers are replaced")
        bounded(main())
    assert server.wait() == 0, server.rest()
    assert not path.exists()


def test_sigusr1_logs_how_many_connections_each_worker_has(tmp_path):
    with serving(tmp_path, "handlers:Who") as server:

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                await one_of_each(stack, server.uri, 2)
                while True:
                    server.signal(signal.SIGUSR1)
                    line = await asyncio.to_thread(server.until_logged, "connections of the workers: ")
                    if line.rstrip().endswith(": 1, 1"):
                        return
                    await asyncio.sleep(0.1)

        bounded(main())


def test_log_records_name_the_worker(tmp_path):
    crashing = (
        HANDLERS + "class Bad(fastws.Handler):\n    def on_message(self, ws, message):\n        1 / 0\n"
    )
    (tmp_path / "handlers.py").write_text(crashing)
    with serving(tmp_path, "handlers:Bad", workers=1) as server:

        async def main():
            async with client(server.uri) as ws:
                await ws.send("x")
                await ws.wait_closed()

        bounded(main())
        assert " worker-0 fastws.server: " in server.until_logged("connection handler failed")


def test_reload_replaces_the_workers_when_a_file_changes(tmp_path):
    pytest.importorskip("watchfiles")
    with serving(tmp_path, "handlers:Who", "--reload", "--log-level", "debug", workers=1) as server:
        server.until_logged("watches for changes")
        for version in range(2, 1000):
            # The watcher may not be there for the first change.
            (tmp_path / "handlers.py").write_text(HANDLERS.replace("VERSION = 1", f"VERSION = {version}"))
            if bounded(who(server.uri))[2] != 1:
                break
            time.sleep(0.05)
        assert "handlers.py" in server.until_logged("replacing the workers: changed: ")
    assert server.wait() == 0, server.rest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0, allowed are 1 and more"),
        ({"workers": True}, "workers is True"),
        ({"reload": True}, "reload needs the name of a handler"),
        ({"drain_rate": -1}, "drain_rate is -1"),
        ({"drain_timeout": -1}, "drain_timeout is -1"),
        ({"stall_timeout": "x"}, "stall_timeout is 'x'"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_starts(options, message):
    with pytest.raises(ValueError, match=message):
        fastws.run(fastws.Handler(), port=0, **options)
