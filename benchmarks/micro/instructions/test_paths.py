"""Every path, run without callgrind, with its own checks of what handler and clients got."""

import json
import subprocess
import sys
from pathlib import Path

from .counted import environment

COUNTING = """
dumped = []
called = 0

def start():
    pass

def call(function):
    global called
    called += 1
    return function()

def dump(name):
    global called
    if name != "warm-up":
        assert called, name
        dumped.append(name)
    called = 0
"""


def test_each_path_does_what_it_says(tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    program = (
        "import json, sys, counting; from micro.instructions import paths; "
        "paths.main(); print(); print(json.dumps(counting.dumped))"
    )
    variables = {key: value for key, value in environment(tmp_path).items() if key != "LD_PRELOAD"}
    variables["PYTHONPATH"] += f":{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=False,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    report, dumped = map(json.loads, done.stdout.splitlines())
    assert list(report["messages"]) == dumped
    assert all(count > 0 for count in report["messages"].values())
    table = json.loads((Path(__file__).parent / "instructions.json").read_text())
    assert list(table[0]["paths"]) == dumped
    assert report["build"].keys() == table[0]["build"].keys()
