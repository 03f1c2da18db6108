"""
Results on disk: results/<date>-<machine>/results.json, with what it takes to know what was measured, and on
what.

    format      1; raised when a reader of older files would be wrong
    date        when the run began, UTC
    command     what gives the same run again
    commit      of this repository; `changed` when files differed from it
    machine     processor, cores, memory, kernel, and which cores were used
    versions    of all that was compared
    options     rounds, and seconds in each
    cells       for each its description and, for each server, `runs` and `half_load`, what the load found in
                each round; or `failure`, why it is not ranked, or `left_out`, what it cannot do
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from installing import HERE, versions

FORMAT = 1
RESULTS = HERE / "results"
RAW = "results.json"


def start(
    *, options: dict[str, Any], command: str, machine: str | None, cores: tuple[int, list[int]]
) -> dict[str, Any]:
    """Return results that have no cells yet."""
    about = describe_machine(cores)
    return {
        "format": FORMAT,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": command,
        "commit": git("rev-parse", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        "machine": {"name": machine or f"{slug(about['processor'])}-{about['cores']}-cores", **about},
        "versions": versions(),
        "options": options,
        "minutes": 0.0,
        "cells": {},
    }


def describe_machine(cores: tuple[int, list[int]]) -> dict[str, Any]:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "server_core": cores[0],
        "load_cores": cores[1],
    }


def new_place(results: dict[str, Any]) -> Path:
    """Return a folder of results/ that is not there yet."""
    name = f"{results['date'][:10]}-{results['machine']['name']}"
    place, number = RESULTS / name, 1
    while place.exists():
        number += 1
        place = RESULTS / f"{name}-{number}"
    return place


def save(results: dict[str, Any], place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    unfinished = place / f"{RAW}.new"
    unfinished.write_text(json.dumps(results, indent=1) + "\n")
    unfinished.replace(place / RAW)


def read(place: Path) -> dict[str, Any]:
    """Return the results in a folder. Raises ValueError for a format that is not this one."""
    results: dict[str, Any] = json.loads((place / RAW).read_text())
    if results.get("format") != FORMAT:
        raise ValueError(f"{place / RAW} has format {results.get('format')!r}, expected {FORMAT}")
    return results


def said(load_cores: list[int]) -> str:
    """Return where the load was, in words."""
    return f"load on core{'s' if len(load_cores) > 1 else ''} {', '.join(map(str, load_cores))}"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def git(*arguments: str) -> str:
    """Return what git says about this repository, or nothing where there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(HERE), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
