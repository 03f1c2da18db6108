"""Time fastws's micro-benchmarks and compare them with the committed run of the same processor.

Status: 0; 1 when one became slower by more than a tenth, see comparing.py; 2 when they did not run.
With no run of this processor, or none that compares, it says so and times nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import fastws

from .comparing import PASSES, Change, Run, Timing, best, compare

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BASELINES = HERE / "baseline"
# Rounds that the clock can tell apart, and few: more passes, further apart, find more quiet moments.
OPTIONS = [
    "--own",
    "--benchmark-enable",
    "--benchmark-min-time=0.0001",
    "--benchmark-max-time=0.05",
    "--benchmark-min-rounds=20",
    "--benchmark-disable-gc",
    "-q",
]


class Failed(Exception):
    """pytest did not pass; its output is above."""


def processor() -> str:
    """Return the model of the CPU with what tells models of one name apart; of Linux and others."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    facts = dict(re.findall(r"^(model name|cpu family|model|CPU part)\s*: (.*)$", text, re.MULTILINE))
    name = facts.get("model name") or platform.processor() or platform.machine()
    numbers = [facts[key] for key in ("cpu family", "model", "CPU part") if key in facts]
    return " ".join([name, *numbers])


def machine() -> dict[str, str]:
    """Return what has to be the same for timings to compare."""
    return {
        "processor": processor(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "kernels": fastws.kernels(),
    }


def baseline_path(facts: dict[str, str]) -> Path:
    return BASELINES / (re.sub(r"[^a-z0-9]+", "-", facts["processor"].lower()).strip("-") + ".json")


def commit() -> str:
    """Return the commit that is checked out, with "+" when files differ from it; "unknown" without git."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def read_run(report: dict[str, Any]) -> Run:
    """Take what is compared from pytest-benchmark's JSON."""
    return {
        one["fullname"]: Timing(**{key: one["stats"][key] for key in ("median", "iqr", "min", "rounds")})
        for one in report["benchmarks"]
    }


def timed(names: list[str], arguments: list[str]) -> Run:
    """Time the benchmarks of these names, of [] all. Raises: Failed."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run.json"
        what = names or [str(HERE.relative_to(ROOT))]
        command = [sys.executable, "-m", "pytest", *what, *OPTIONS, f"--benchmark-json={path}", *arguments]
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise Failed(done.stdout + done.stderr)
        return read_run(json.loads(path.read_text()))


def save(arguments: list[str]) -> None:
    facts = machine()
    print(f"timing {PASSES} times on {facts['processor']}", flush=True)
    run = best(timed([], arguments) for _ in range(PASSES))
    path = baseline_path(facts)
    path.parent.mkdir(exist_ok=True)
    lines = [f"  {json.dumps(name)}: {json.dumps(rounded(timing))}" for name, timing in sorted(run.items())]
    path.write_text(
        f'{{"machine": {json.dumps(facts)},\n "commit": {json.dumps(commit())},\n "timings": {{\n'
        + ",\n".join(lines)
        + "\n}}\n"
    )
    print(f"saved {len(run)} timings in {path.relative_to(ROOT)}")


def rounded(timing: Timing) -> dict[str, float]:
    """Return a timing for JSON, in seconds of four digits."""
    facts = dataclasses.asdict(timing)
    return {key: value if key == "rounds" else float(f"{value:.4g}") for key, value in facts.items()}


def line(change: Change) -> str:
    name = change.name.removeprefix("benchmarks/micro/")
    return f"{name}: {change.now.min * 1e6:.4g} us, {change.share:+.0%} from {change.before.min * 1e6:.4g}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__)
    parser.add_argument("--save", action="store_true", help="time several times, and save that instead")
    args, arguments = parser.parse_known_args()
    facts = machine()
    path = baseline_path(facts)
    try:
        if args.save:
            save(arguments)
            return 0
        if not path.exists():
            known = ", ".join(sorted(one.stem for one in BASELINES.glob("*.json"))) or "none"
            print(f"no run of {facts['processor']!r} is committed (there are: {known}): make bench-save")
            return 0
        saved = json.loads(path.read_text())
        differs = [
            f"{key} {saved['machine'][key]}, not {facts[key]}"
            for key in facts
            if saved["machine"][key] != facts[key]
        ]
        if differs:
            print(f"the committed run does not compare: {'; '.join(differs)}")
            return 0
        baseline = {name: Timing(**timing) for name, timing in saved["timings"].items()}
        print(f"comparing with {path.name}, of {saved['commit']}", flush=True)
        found = compare(baseline, lambda names: timed(names, arguments))
    except Failed as error:
        print(error, file=sys.stderr)
        return 2
    for change in found.slower:
        print(f"  SLOWER: {line(change)}")
    for change in found.faster:
        print(f"  faster: {line(change)}")
    for name in found.missing if not arguments else ():
        print(f"  missing: {name}")
    for name in found.new:
        print(f"  new: {name}")
    print(f"{len(baseline)} timings: {len(found.slower)} slower, {len(found.faster)} faster, by over a tenth")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if found.slower and load > cores:
        print(f"other work ran here, {load:.1f} processes on {cores} cores: that may be all")
    return 1 if found.slower else 0


if __name__ == "__main__":
    sys.exit(main())
