"""What the benchmarks measure, rank and report."""

import copy
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
LIMIT = 120  # seconds for what takes about ten


def run_of(rate, cost, **more):
    """Return a round as the load reports it, of a server whose core was full."""
    shares = {
        "server_cpu_share": 0.99,
        "server_wait_share": 0.0,
        "load_cpu_share": 0.6,
        "load_wait_share": 0.0,
    }
    latencies = {"p50_us": 100.0, "p99_us": 200.0, "p999_us": 300.0}
    return {"rate": rate, "server_cpu_us": cost, **latencies, **shares, "stolen_share": 0.0, **more}


def server(*runs, half_load=(), failure=None, left_out=None):
    return {"runs": list(runs), "half_load": list(half_load), "failure": failure, "left_out": left_out}


CELL = {
    "description": "64-byte messages",
    "mode": "echo",
    "deflate": False,
    "unit": "message",
    "note": "",
    "servers": {
        "slow": server(run_of(1e4, 100.0), run_of(1.2e4, 80.0), half_load=[run_of(5e3, 90.0, rate_due=5e3)]),
        "limit": server(run_of(1e5, 10.0), run_of(1e5, 10.0)),
        "idling": server(run_of(2e5, 5.0), run_of(2e5, 5.0, server_cpu_share=0.5)),
        "wrong": server(run_of(3e5, 1.0), failure="load: connection 3: wrong answer"),
        "lacking": server(left_out="has no TLS"),
        "late": server(run_of(9e4, 11.0), half_load=[run_of(3e4, 11.0, rate_due=4.5e4)]),
        "crowded": server(run_of(8e4, 12.0, server_cpu_share=0.7, server_wait_share=0.28)),
    },
}
RESULTS = {
    "format": 1,
    "date": "2025-01-02T03:04:05Z",
    "command": "python benchmarks/bench.py --full",
    "commit": "0123456789abcdef",
    "changed": False,
    "machine": {
        "name": "it",
        "processor": "Some CPU",
        "cores": 2,
        "memory_gib": 4.0,
        "kernel": "Linux 6 x86_64",
        "server_core": 0,
        "load_cores": [1],
    },
    "versions": {"python": "3.11.7"},
    "options": {"rounds": 2, "seconds": 1.0, "full": True},
    "minutes": 1.5,
    "cells": {"echo-64": CELL},
}


@pytest.fixture
def modules(monkeypatch):
    """The modules of benchmarks/, which import each other as programs do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import recording
    import report
    import tables

    return tables, report, recording


def test_the_cheapest_comes_first_and_who_is_not_ranked_is_marked(modules):
    tables, _, _ = modules
    found = tables.rows(CELL)
    assert [row.server for row in found] == ["idling", "limit", "late", "crowded", "slow"]
    assert [row.mark for row in found] == ["not saturated", "", "did not keep up at half load", "", ""]


def test_a_server_with_a_wrong_answer_has_no_figures(modules):
    tables, _, _ = modules
    assert "wrong" not in [row.server for row in tables.rows(CELL)]
    assert tables.absent(CELL) == [
        ("wrong", "not ranked: load: connection 3: wrong answer"),
        ("lacking", "left out: has no TLS"),
    ]


def test_a_server_is_marked_when_the_load_was_full_first(modules):
    tables, _, _ = modules
    cell = copy.deepcopy(CELL)
    for run in cell["servers"]["idling"]["runs"]:
        run["load_cpu_share"] = 0.98
    assert "not saturated: the load was" in [row.mark for row in tables.rows(cell)]


def test_ratios_compare_within_each_round(modules):
    tables, _, _ = modules
    slow = next(row for row in tables.rows(CELL) if row.server == "slow")
    assert slow.figures["cost_ratio"] == pytest.approx((10 / 100 + 10 / 80) / 2)
    assert slow.figures["rate_ratio"] == pytest.approx((0.1 + 0.12) / 2)


def test_rates_are_not_compared_with_a_yardstick_that_could_have_gone_faster(modules):
    tables, _, _ = modules
    cell = copy.deepcopy(CELL)
    cell["servers"]["limit"]["runs"][1]["server_cpu_share"] = 0.3
    assert all("rate_ratio" not in row.figures for row in tables.rows(cell))
    assert all("cost_ratio" in row.figures for row in tables.rows(cell))


def test_a_server_that_shares_its_core_with_other_work_is_marked(modules):
    tables, _, _ = modules
    assert [row.server for row in tables.rows(CELL) if row.disturbed] == ["crowded"]
    assert "crowded ~" in tables.markdown(CELL)


@pytest.mark.parametrize("who", ["server_wait_share", "load_wait_share", "stolen_share"])
def test_a_busy_machine_is_marked_where_only_half_load_or_the_run_alone_was_on_it(modules, who):
    tables, _, _ = modules
    quiet, busy = run_of(1e4, 100.0), run_of(5e3, 90.0, rate_due=5e3, **{who: 0.2})
    at_half, beside = server(quiet, half_load=[busy]), server(quiet | {"alone": busy})
    rows = tables.rows(CELL | {"servers": {"half": at_half, "alone": beside}})
    assert [row.disturbed for row in rows] == [True, True]


def test_the_report_ranks_in_order_and_says_what_was_measured(modules):
    _, report, _ = modules
    text = report.report(RESULTS, [])
    assert "| 2 | limit |" in text
    assert "| 4 | crowded ~ |" in text
    assert "|  | idling (not saturated) | 5.00 | 2.00 | (200,000) | (2.00) |" in text
    assert "`0123456789ab`" in text
    assert "| python | 3.11.7 |" in text


def test_the_report_has_its_charts_and_they_are_the_same_each_time(modules, tmp_path):
    pytest.importorskip("matplotlib")
    _, report, recording = modules
    recording.save(RESULTS, tmp_path)
    report.write(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert set(first) == {"overview.svg", "rate.svg", "cpu.svg", "latency.svg"}
    assert b"not saturated" in first["rate.svg"]
    assert "](rate.svg)" in (tmp_path / "report.md").read_text()
    report.write(tmp_path)
    assert first == {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}


def test_the_readme_gets_the_figures_between_its_markers(modules, tmp_path, monkeypatch):
    _, report, recording = modules
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    recording.save(RESULTS, tmp_path / "run")
    block = report.for_readme(tmp_path / "run")
    assert "](run/overview.svg)" in block
    assert "| slow | 11,000 | 90.00 | 200 |" in block
    assert "| idling | (200,000) | 5.00 |  |" in block
    assert "    make bench-full" in block
    text = report.with_block(f"before\n{report.FROM}\nold\n{report.TO}\nafter\n", block)
    assert text == f"before\n{report.FROM}\n{block}\n{report.TO}\nafter\n"
    with pytest.raises(ValueError, match="no <!-- to"):
        report.with_block(report.FROM, block)


def test_what_the_readme_shows_is_what_the_committed_run_says(modules):
    _, report, _ = modules
    text = report.README.read_text()
    shown = text.partition(report.FROM)[2].partition(report.TO)[0].strip()
    assert report.FROM in text and report.TO in text
    if shown:
        place = ROOT / shown.partition("](")[2].partition("/overview.svg)")[0]
        assert shown == report.for_readme(place)


def test_raw_figures_of_another_format_are_refused(modules, tmp_path):
    _, _, recording = modules
    recording.save({**RESULTS, "format": 7}, tmp_path)
    with pytest.raises(ValueError, match="has format 7, expected 1"):
        recording.read(tmp_path)


@pytest.fixture
def load(monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("cores are chosen by Linux' calls")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import load

    return load


def test_several_processes_are_one_load_together(load):
    whole = load.Load("echo", 10, rate=900.0)
    parts = load.parts(whole, 3)
    assert [part.connections for part in parts] == [4, 3, 3]
    assert sum(part.rate for part in parts) == pytest.approx(900.0)
    assert len(load.parts(load.Load("echo", 2), 3)) == 2
    assert load.parts(load.Load("fanout", 10), 3) == [load.Load("fanout", 10)]


def test_what_several_processes_found_is_one_run(load):
    shares = {
        "load_cpu_share": 0.5,
        "load_wait_share": 0.1,
        "server_cpu_share": 1.0,
        "server_wait_share": 0.0,
    }
    one = {
        "seconds": 2.0,
        "count": 200,
        "received_bytes": 1000,
        "server_ns": 2e9,
        "late": 1,
        "stuck_closed": 0,
    }
    first = {**one, **shares, "latencies": [(1000, 150), (9000, 50)]}
    second = {**one, **shares, "count": 100, "latencies": [(3000, 98), (20_000, 2)]}
    run = load.together([first, second], load.Load("echo", 10, rate=200.0))
    assert run["rate"] == 150.0
    assert run["server_cpu_us"] == pytest.approx(1e6 / 150, rel=1e-4)  # one core, all the time
    assert (run["p50_us"], run["p99_us"], run["p999_us"], run["max_us"]) == (1.0, 9.0, 20.0, 20.0)
    assert run["wire_bytes"] == pytest.approx(2000 / 300, abs=0.1)
    assert run["late"] == 2


def test_every_server_that_a_cell_leaves_out_has_a_reason(load):
    import cells
    import competitors

    left_out = {
        (cell.name, name): it.lack(cell.needs)
        for cell in cells.CELLS
        for name, it in competitors.COMPETITORS.items()
        if it.lack(cell.needs)
    }
    assert left_out["tls-64", "limit"] == "has no TLS"
    assert left_out["deflate-1k", "picows"] == "has no compression"
    assert left_out["text-16k", "bun"] == "text comes as str only"
    assert "wait" in left_out["fanout-stuck", "aiohttp"]
    assert not [cell for cell, name in left_out if name in ("fastws", "coroutines", "streams")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the yardstick and the load need epoll")
@pytest.mark.skipif(not shutil.which("gcc"), reason="the yardstick is compiled with gcc")
def test_two_servers_are_measured_and_reported(tmp_path):
    cells = ["--cells", "echo-64", "--servers", "limit", "fastws"]
    command = [sys.executable, "benchmarks/bench.py", *cells, "--rounds", "1", "--seconds", "0.2"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    for name, it in results["cells"]["echo-64"]["servers"].items():
        assert it["failure"] is None, name
        (run,) = it["runs"]
        assert run["rate"] > 0 and run["server_cpu_us"] > 0
        assert 0 < run["p50_us"] <= run["p99_us"] <= run["p999_us"]
    assert "fastws" in (tmp_path / "report.md").read_text()
