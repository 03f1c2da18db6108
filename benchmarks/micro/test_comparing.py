"""The verdict on timings, and what it is taken from."""

import itertools
import json

import pytest

from . import compare, comparing
from .comparing import PASSES, Timing


def run(**shortest):
    """Return a run whose benchmarks have these shortest rounds, in microseconds."""
    return {name: Timing(us * 1.2e-6, us * 1e-8, us * 1e-6, 1000) for name, us in shortest.items()}


class Machine:
    """Times as it is told, one run after the other; the last one again and again."""

    def __init__(self, *runs):
        self.runs = itertools.chain(runs, itertools.repeat(runs[-1]))
        self.asked = []

    def __call__(self, names):
        self.asked.append(names)
        found = next(self.runs)
        return {name: found[name] for name in names} if names else found


def names(changes):
    return [change.name for change in changes]


@pytest.mark.parametrize(
    ("now", "slower", "faster"), [(111, ["a"], []), (109, [], []), (91, [], []), (89, [], ["a"])]
)
def test_a_change_of_11_percent_is_flagged_and_one_of_9_is_not(now, slower, faster):
    found = comparing.compare(run(a=100, b=5), Machine(run(a=now, b=5)))
    assert (names(found.slower), names(found.faster)) == (slower, faster)


def test_what_is_within_the_limit_is_timed_once():
    machine = Machine(run(a=109, b=5))
    comparing.compare(run(a=100, b=5), machine)
    assert machine.asked == [[]]


def test_only_what_differs_is_timed_again_and_only_so_often():
    machine = Machine(run(a=100, b=50, c=7))
    found = comparing.compare(run(a=100, b=5, c=7), machine)
    assert machine.asked == [[]] + [["b"]] * (PASSES - 1)
    assert names(found.slower) == ["b"]
    assert found.slower[0].share == pytest.approx(9)


def test_one_quiet_pass_is_enough():
    machine = Machine(run(a=150), run(a=150), run(a=104), run(a=150))
    found = comparing.compare(run(a=100), machine)
    assert (found.slower, found.faster) == ([], [])
    assert machine.asked == [[], ["a"], ["a"]]


def test_a_slow_pass_after_a_fast_one_does_not_hide_that_it_was_fast():
    found = comparing.compare(run(a=100), Machine(run(a=80), run(a=100)))
    assert names(found.faster) == ["a"]


def test_the_largest_changes_come_first():
    found = comparing.compare(run(a=10, b=10, c=10, d=10), Machine(run(a=12, b=20, c=8, d=2)))
    assert names(found.slower) == ["b", "a"]
    assert names(found.faster) == ["d", "c"]


def test_what_is_missing_and_what_is_new_is_named():
    found = comparing.compare(run(a=1, b=1), Machine(run(b=1, c=1)))
    assert (found.missing, found.new) == (["a"], ["c"])


def test_the_report_of_pytest_benchmark_is_read():
    stats = {"median": 2e-6, "iqr": 1e-7, "min": 1e-6, "rounds": 7, "max": 1.0}
    assert compare.read_run({"benchmarks": [{"fullname": "x.py::y", "stats": stats}]}) == {
        "x.py::y": Timing(2e-6, 1e-7, 1e-6, 7)
    }


# ---- the program


@pytest.fixture
def program(tmp_path, monkeypatch, capsys):
    """Run it with baselines of its own, on a machine that times as it is told."""
    monkeypatch.setattr(compare, "BASELINES", tmp_path / "baseline")
    monkeypatch.setattr(compare, "ROOT", tmp_path)

    def main(timings, *arguments, **facts):
        monkeypatch.setattr(compare, "timed", lambda names, _: timings)
        machine = {"processor": "A CPU (R) @ 1", "python": "3.11", "kernels": "avx2", **facts}
        monkeypatch.setattr(compare, "machine", lambda: machine)
        monkeypatch.setattr("sys.argv", ["compare", *arguments])
        return compare.main(), capsys.readouterr().out

    return main


def test_a_saved_run_is_compared_with(program, tmp_path):
    assert program(run(a=100), "--save")[0] == 0
    assert (
        json.loads((tmp_path / "baseline" / "a-cpu-r-1.json").read_text())["timings"]["a"]["rounds"] == 1000
    )
    assert program(run(a=109))[0] == 0
    status, output = program(run(a=111))
    assert status == 1
    assert "SLOWER: a: 111 us, +11% from 100" in output


def test_a_faster_one_is_told_and_is_no_failure(program):
    program(run(a=100), "--save")
    status, output = program(run(a=50))
    assert status == 0
    assert "faster: a: 50 us, -50% from 100" in output


def test_another_processor_has_nothing_to_compare_with_and_says_so(program):
    program(run(a=100), "--save")
    status, output = program(run(a=300), processor="Another")
    assert status == 0
    assert "no run of 'Another' is committed (there are: a-cpu-r-1)" in output


@pytest.mark.parametrize("fact", ["python", "kernels"])
def test_another_python_or_kernel_set_does_not_compare_and_says_so(program, fact):
    program(run(a=100), "--save")
    status, output = program(run(a=300), **{fact: "other"})
    assert status == 0
    assert f"does not compare: {fact}" in output


def test_the_processor_here_has_a_name():
    assert compare.machine()["processor"].strip()
    assert compare.baseline_path(compare.machine()).suffix == ".json"
