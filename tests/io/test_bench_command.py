"""`python -m fastws bench` as a process of its own, against servers that are processes, too."""

import contextlib
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import click
import pytest
import trustme
from click.testing import CliRunner
from hdrh.histogram import HdrHistogram
from peers import LIMIT
from websockets.sync.server import serve as websockets_serve

from fastws.bench.command import bench as bench_command
from fastws.bench.observing import ObservingError, Processes
from fastws.cli import main

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the load generator is on epoll")

DOCS = (pathlib.Path(__file__).parents[2] / "docs" / "bench.md").read_text()
SHORT = ("-d", "0.3", "--warmup", "0.1")
HANDLERS = """
import fastws

class Echo(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)

class All(fastws.Handler):
    def on_open(self, ws):
        ws.subscribe("all")

    def on_message(self, ws, message):
        ws.server.publish("all", message)
"""


@contextlib.contextmanager
def serving(place, *args):
    """Start a server; give its process id and URL."""
    (place / "handlers.py").write_text(HANDLERS)
    command = [sys.executable, "-m", "fastws", "serve", "--log-level", "error", *map(str, args)]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.pid, re.search(r"(?:wss?|unix):\S+", process.stdout.readline())[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("echo"), "handlers:Echo", "--port", 0) as server:
        yield server


def command(*args):
    return [sys.executable, "-m", "fastws", "bench", *map(str, args)]


def bench(*args, status=0):
    """Run to the end; give what it printed, and what went to stderr."""
    done = subprocess.run(command(*args), check=False, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


def document(*args, status=0):
    """Run to the end, with short phases; give the report."""
    return json.loads(bench(*SHORT, *args, "--json", "-", status=status)[0])


# ---------------------------------------------------------------- modes


def test_echo_counts_and_times_every_answer(echo):
    pid, url = echo
    made = document(url, "-c", 5, "-i", 3, "-s", "64:0.9,4k:0.1", "--server-pid", pid)
    totals, latency = made["totals"], made["latency"]
    assert made["passed"], made
    assert made["errors"] == {}
    assert totals["connections_opened"] == totals["connections_left"] == 5
    assert totals["messages"] > 0
    assert totals["rate"] == pytest.approx(totals["messages"] / totals["seconds"], rel=0.01)
    # More than the mean payload, 467 bytes, each way.
    assert min(totals["sent_bytes"], totals["received_bytes"]) > 300 * totals["messages"]
    # What was under way when the window ended counts as well.
    assert totals["messages"] <= latency["count"] <= totals["messages"] + 5 * 3
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["p999"] <= latency["max"]
    assert HdrHistogram.decode(latency["histogram"]).get_total_count() == latency["count"]
    assert made["handshake_latency"]["count"] == 5
    assert made["series"]["at"] == [0.1, 0.2, 0.3]
    assert made["series"]["connections"] == [5, 5, 5]
    assert made["server"]["cpu_seconds"] > 0
    assert made["server"]["memory"]["end"] > 2**20


def test_an_open_loop_sends_at_its_rate_from_several_processes(echo):
    made = document(echo[1], "-c", 4, "-p", 2, "-r", 500, "-d", 1)
    assert len(made["load"]["processes"]) == 2
    assert made["totals"]["rate"] == pytest.approx(500, rel=0.2)


def test_fanout_counts_deliveries(tmp_path):
    with serving(tmp_path, "handlers:All", "--port", 0) as (_, url):
        made = document(url, "-m", "fanout", "-c", 10, "--stuck", 1)
    assert made["totals"]["unit"] == "delivery"
    assert made["totals"]["messages"] >= 10


def test_a_storm_counts_handshakes(echo):
    made = document(echo[1], "-m", "storm", "-c", 4)
    assert made["totals"]["handshakes"] > 0
    assert made["totals"]["rate"] > 0
    assert made["latency"]["count"] == made["totals"]["handshakes"]


def test_idle_connections_are_held_and_their_memory_is_told(echo):
    pid, url = echo
    made = document(url, "-m", "idle", "-c", 300, "--server-pid", pid)
    assert made["series"]["connections"] == [300] * 3
    assert made["latency"] is None
    assert 0 < made["server"]["memory_per_connection"] < 10**6


@pytest.mark.parametrize(
    "options", [("--kind", "utf8", "--fragments", 4), ("--kind", "ticker", "-s", "1k", "--header", "X-A: b")]
)
def test_answers_to_messages_of_every_kind_are_verified(echo, options):
    made = document(echo[1], "-c", 2, *options)
    assert made["totals"]["messages"] > 0


def test_compressed_messages_take_less(tmp_path):
    with serving(tmp_path, "handlers:Echo", "--port", 0, "--compression", "deflate") as (_, url):
        made = document(url, "-c", 2, "--deflate")
    assert made["plan"]["kind"] == "ticker"
    assert made["totals"]["uncompressed"] == 0
    assert made["totals"]["received_bytes"] < 900 * made["totals"]["messages"]


def test_unix_sockets_are_loaded(tmp_path):
    with serving(tmp_path, "handlers:Echo", "--unix", tmp_path / "socket"):
        made = document(f"ws+unix://{tmp_path}/socket:/chat", "-c", 2)
    assert made["totals"]["messages"] > 0
    assert made["plan"]["address"] == f"unix:{tmp_path}/socket"


def test_tls_servers_are_verified(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "cert.pem")
    )
    with serving(tmp_path, "handlers:Echo", "--port", 0, "--certfile", tmp_path / "cert.pem") as (_, url):
        made = document(url, "-c", 2, "--cafile", tmp_path / "ca.pem")
        assert made["totals"]["messages"] > 0
        refused = document(url, "-c", 2, status=1)
    assert "no connection" in refused["failure"]


# ---------------------------------------------------------------- what fails


@contextlib.contextmanager
def answering(handler):
    """Serve with the websockets library, in a thread; give the URL."""
    with websockets_serve(handler, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_wrong_answers_are_errors_and_cost_their_connections():
    def backwards(ws):
        for message in ws:
            ws.send(message[::-1])

    with answering(backwards) as url:
        # Not to its end, for nobody is left.
        made = json.loads(bench(url, "-c", 3, "-d", 60, "--json", "-", status=1)[0])
        assert sum(made["errors"].values()) == 3
        assert any("wrong answer" in kind for kind in made["errors"])
        assert made["totals"]["connections_left"] == 0
        assert not made["passed"]
        strict = document(url, "-c", 3, "--strict", status=1)
    assert "wrong answer" in strict["failure"]


def test_what_the_load_refuses_ends_with_status_2(echo):
    out, err = bench(echo[1], "--kind", "ticker", "-s", 64, status=2)
    assert "sizes with kind 'ticker' is 64" in err
    assert "Traceback" not in err
    assert out == ""


def test_a_stall_shows_in_every_message_that_was_due_in_it():
    def stalling(ws):
        for number, message in enumerate(ws):
            if number == 60:
                time.sleep(0.3)
            ws.send(message)

    def slow(*options):
        with answering(stalling) as url:
            made = document(url, "-c", 1, "-d", 1, *options)
        histogram = HdrHistogram.decode(made["latency"]["histogram"])
        items = histogram.get_recorded_iterator()
        return sum(item.count_at_value_iterated_to for item in items if item.value_iterated_to > 50e6)

    # 200 in a second: 50 of them were due in the 250 ms that left them at least 50 ms to wait.
    assert slow("--rate", 200) >= 40
    assert slow() <= 10


def test_a_stall_at_the_end_is_waited_for():
    def stalling(ws):
        for number, message in enumerate(ws):
            if number == 60:
                time.sleep(1.5)
            ws.send(message)

    with answering(stalling) as url:
        made = document(url, "-c", 1, "-d", 0.4, "--warmup", 0.1, "--rate", 200)
    assert made["latency"]["max"] > 1.2e9
    assert made["totals"]["unanswered"] == 0


def test_answers_that_never_come_are_told():
    over = threading.Event()

    def mute(ws):
        for number, message in enumerate(ws):
            if number == 60:
                over.wait(LIMIT)
            ws.send(message)

    with answering(mute) as url:
        try:
            made = document(url, "-c", 1, "-d", 0.4, "--warmup", 0.1, "--rate", 200)
        finally:
            over.set()
    assert made["totals"]["unanswered"] >= 35
    assert "unanswered" in [warned["code"] for warned in made["warnings"]]


def test_nobody_listening_is_told_with_status_1():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    out, err = bench(f"ws://127.0.0.1:{port}/", *SHORT, status=1)
    assert f"failed: no connection to 127.0.0.1:{port} could be opened: refused" in out
    assert "Traceback" not in err


def test_a_condition_that_is_met_is_named_with_status_1(echo):
    out, _ = bench(echo[1], *SHORT, "--fail-if", "p50>1ns", "--fail-if", "errors>0", status=1)
    assert "failed: p50>1ns: it is " in out
    assert "errors>0" not in out


def test_quiet_prints_what_failed_alone(echo):
    out, err = bench(echo[1], *SHORT, "-q", "--fail-if", "rate<1000M", status=1)
    assert out == ""
    assert "failed: rate<1000M: it is " in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("ws://8.8.8.8/",), "--allow-remote"),
        (("http://127.0.0.1/",), "scheme is 'http'"),
        (("ws://127.0.0.1:9/", "-s", "x"), "size is 'x'"),
        (("ws://127.0.0.1:9/", "--fail-if", "p99>5"), "unit of 'p99>5' is missing"),
        (("ws://127.0.0.1:9/", "--fail-if", "cpu>5us"), "needs --server-pid"),
        (("ws://127.0.0.1:9/", "-m", "fanout", "-p", "2"), "fanout runs in 1 process"),
        (("ws://127.0.0.1:9/", "--server-pid", "4194305"), "there is no process 4194305"),
        (("ws://127.0.0.1:9/", "--html", "/no/such/folder/x.html"), "cannot be written"),
        (("ws://127.0.0.1:9/", "--cpu", "9999"), "core 9999 is not among"),
        (("ws://127.0.0.1:9/", "-m", "nothing"), "echo"),
    ],
)
def test_options_that_make_no_sense_end_with_status_2(args, message):
    # In this process, for it ends before there is another.
    done = CliRunner().invoke(main, ["bench", *args])
    assert done.exit_code == 2
    assert message in done.output


# ---------------------------------------------------------------- Ctrl-C, the terminal


def interrupted(url, when, *args):
    """Start a long run, interrupt it when that has happened; give its report."""
    arguments = command(url, "-d", 60, "--json", "-", *args)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert when.wait(LIMIT)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    return json.loads(out)


def test_ctrl_c_ends_with_the_figures_until_then_and_status_130():
    running = threading.Event()

    def handler(ws):
        for number, message in enumerate(ws):
            ws.send(message)
            if number == 50:
                running.set()

    with answering(handler) as url:
        made = interrupted(url, running, "-c", 2, "-p", 2, "--warmup", 0)
    assert made["interrupted"]
    assert made["failure"] is None
    assert made["errors"] == {}
    assert made["totals"]["messages"] > 0
    assert 0 < made["totals"]["seconds"] < LIMIT
    assert made["latency"]["count"] >= made["totals"]["messages"]


def test_ctrl_c_while_connections_open_ends_with_status_130():
    accepted = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            kept.append(server.accept())
            accepted.set()

        kept = []
        thread = threading.Thread(target=accept)
        thread.start()
        made = interrupted(f"ws://127.0.0.1:{server.getsockname()[1]}/", accepted, "-c", 1)
        thread.join()
        kept[0][0].close()
    assert made["interrupted"]
    assert made["totals"]["messages"] == 0


def children_of(pid):
    return Processes((pid,), tree=True).pids()[1:]


def test_processes_end_with_their_parent():
    running = threading.Event()
    ended = threading.Event()

    def handler(ws):
        try:
            for message in ws:
                ws.send(message)
                running.set()
        finally:
            ended.set()

    with answering(handler) as url:
        with subprocess.Popen(command(url, "-c", 1, "-d", 60, "-q")) as process:
            try:
                assert running.wait(LIMIT)
                children = children_of(process.pid)
                assert len(children) == 1
            finally:
                process.kill()
        assert ended.wait(LIMIT)


def test_the_tree_of_a_process_has_what_it_started():
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as shell:
        try:
            assert shell.stdout.readline()
            processes = Processes((shell.pid,), tree=True)
            found = processes.pids()
            assert len(found) == 2
            assert Processes((shell.pid,)).pids() == [shell.pid]
            assert set(processes.times().threads) == set(found)
            assert processes.resident() > Processes((shell.pid,)).resident()
        finally:
            for pid in children_of(shell.pid):
                os.kill(pid, signal.SIGKILL)
    with pytest.raises(ObservingError, match=f"there is no process {shell.pid}"):
        Processes((shell.pid,))


def test_a_terminal_sees_progress_and_a_table(echo):
    ours, theirs = os.openpty()
    with subprocess.Popen(
        command(echo[1], "-d", "0.6", "--warmup", "0.1"),
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while select.select([ours], [], [], LIMIT)[0]:
                try:
                    seen += os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
        finally:
            process.kill()
            os.close(ours)
    assert process.wait(LIMIT) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    for word in ("opening", "measuring", "of 0.6 s", "Throughput", "p99.9"):
        assert word in text


# ---------------------------------------------------------------- reports


def names_in(value, path=""):
    """The paths of all members, as docs/bench.md has them."""
    for name, inner in value.items():
        yield path + name
        if isinstance(inner, dict) and path + name not in ("errors", "series"):
            yield from names_in(inner, f"{path}{name}.")


def test_files_are_written_and_every_member_of_the_report_is_documented(echo, tmp_path):
    pid, url = echo
    files = ("--json", tmp_path / "report.json", "--html", tmp_path / "report.html")
    out, _ = bench(url, *SHORT, "-c", 3, "--server-pid", pid, "--fail-if", "errors>0", *files)
    assert out.startswith("Load\n")
    made = json.loads((tmp_path / "report.json").read_text())
    documented = set(re.findall(r"`([\w.]+)`", DOCS))
    missing = [name for name in names_in(made) if name not in documented]
    missing += [f"series.{name}" for name in made["series"] if f"series.{name}" not in documented]
    assert missing == []
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert f"{made['totals']['rate']:,.0f}" in page


def test_every_option_is_documented_and_every_one_documented_is_there():
    there = {option.opts[-1] for option in bench_command.params if isinstance(option, click.Option)}
    table = re.findall(r"^\| `.*", DOCS, re.MULTILINE)
    documented = set(re.findall(r"`(?:-\w, )?(--[a-z][a-z-]+)", "\n".join(table)))
    assert there == documented


def test_a_module_that_is_missing_is_named_with_what_to_install():
    program = "import sys; sys.modules['rich'] = None; from fastws.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "bench", "ws://127.0.0.1:9/"],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 1
    assert "needs the module rich: pip install 'fastws[bench]'" in done.stderr


def test_serving_imports_nothing_of_the_load_generator():
    program = (
        "import sys, fastws.cli; "
        "print({'rich', 'hdrh', 'fastws.bench', 'fastws._load'} & set(sys.modules) or 'nothing')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert done.stdout == "nothing\n"
