"""The verdict on instructions, and how callgrind's files are read."""

from pathlib import Path

import pytest

import fastws

from . import __main__ as program
from . import counted, guard
from .counted import Cost, Counted

BUILD = {
    "machine": "x86_64",
    "kernels": "avx2",
    "python": "3.11.7",
    "compiler": "gcc 12.2.0",
    "libc": "glibc 2.36",
}


def found(ours=1000.0, all=2000.0, names=("echo",), **build):
    return Counted({**BUILD, **build}, {name: Cost(ours, all) for name in names})


def objections(now, *table):
    return guard.judge(now, table).objections


@pytest.mark.parametrize("figure", ["ours", "all"])
def test_over_3_percent_more_of_the_same_build_is_an_objection(figure):
    before = getattr(found().paths["echo"], figure)
    assert objections(found(**{figure: before * 1.029}), found()) == []
    (objection,) = objections(found(**{figure: before * 1.031}), found())
    assert objection.startswith("echo: ")
    assert f"+3.1% from {before:.5g}, allowed are +3%" in objection


def test_over_3_percent_less_is_a_note():
    verdict = guard.judge(found(ours=960), [found()])
    assert verdict.objections == []
    assert verdict.notes == ["echo: instructions of ours: 960, -4.0% from 1000"]


@pytest.mark.parametrize("fact", ["python", "compiler", "libc"])
def test_another_build_may_need_a_fifth_more_of_ours_and_any_number_in_all(fact):
    other = {fact: "another"}
    assert objections(found(ours=1190, all=9000, **other), found()) == []
    (objection,) = objections(found(ours=1210, **other), found())
    assert "allowed are +20%" in objection
    assert (
        guard.judge(found(**other), [found()]).against == f"another build: {fact} {BUILD[fact]}, not another"
    )


@pytest.mark.parametrize("fact", ["machine", "kernels"])
def test_another_machine_or_kernel_set_is_compared_with_nothing_and_that_is_said(fact):
    verdict = guard.judge(found(ours=9000, **{fact: "another"}), [found()])
    assert verdict.objections == []
    assert verdict.against.startswith("nothing: no figures of ")
    assert "another" in verdict.against


def test_the_most_similar_build_counts():
    far, near = found(ours=10, python="3.13.0", libc="musl 1.2"), found(python="3.13.0")
    assert objections(found(), far, near) == []
    assert objections(found(), far) != []


def test_a_path_that_is_not_counted_any_more_is_an_objection_and_a_new_one_a_note():
    verdict = guard.judge(found(names=["echo", "publish"]), [found(names=["echo", "send"])])
    assert verdict.objections == ["send: not counted"]
    assert verdict.notes == ["publish: new"]


def test_saving_replaces_the_same_build_and_keeps_others():
    other = found(python="3.13.0")
    assert guard.with_entry([found(ours=1), other], found(ours=2)) == [other, found(ours=2)]


CALLGRIND = """\
version: 1
desc: Trigger: Client Request: echo 64
positions: line
events: Ir
ob=(1) {package}/_reactor.so
fl=(1) reactor.c
fn=(1) poll
12 30
cob=(2) /usr/lib/libc.so.6
cfi=(2)
cfn=(2) memcpy
calls=2 0
13 500
+2 5

ob=(2)
fn=(2)
0 500
ob=(1)
fn=(3) later
* 7
totals: 542
"""


def test_instructions_are_those_of_the_object_that_they_are_in():
    package = Path(fastws.__file__).parent
    name, costs = counted.costs_by_object(CALLGRIND.format(package=package))
    assert name == "echo 64"
    # What a call cost is the callee's; an object's name stands where the file first has its number.
    assert costs == {f"{package}/_reactor.so": 42, "/usr/lib/libc.so.6": 500}
    assert counted.cost_of(costs, 2) == Cost(ours=21.0, all=271.0)


def test_without_valgrind_nothing_is_counted_and_that_is_said(monkeypatch):
    monkeypatch.setattr(counted.shutil, "which", lambda _: None)
    with pytest.raises(counted.Failed, match="valgrind"):
        counted.count()


def run(monkeypatch, now, *arguments):
    monkeypatch.setattr(program, "count", lambda: now)
    monkeypatch.setattr("sys.argv", ["instructions", *arguments])
    return program.main()


def test_the_program_fails_when_a_path_became_more_expensive_until_that_is_saved(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(program, "TABLE", tmp_path / "table.json")
    assert run(monkeypatch, found(), "--save") == 0
    assert run(monkeypatch, found(ours=1029)) == 0
    assert run(monkeypatch, found(ours=1031)) == 1
    assert "MORE EXPENSIVE: echo: instructions of ours: 1031, +3.1% from 1000" in capsys.readouterr().out
    assert run(monkeypatch, found(ours=1031), "--save") == 0
    assert run(monkeypatch, found(ours=1031)) == 0
