"""Count the instructions of the hot paths, and compare them with the committed ones.

Status: 0; 1 when a path became more expensive, see guard.py; 2 when nothing could be counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from .counted import Counted, Failed, count
from .guard import judge, table_of, with_entry

TABLE = Path(__file__).parent / "instructions.json"


def show(found: Counted) -> None:
    print(", ".join(f"{name} {value}" for name, value in found.build.items()))
    print(f"{'instructions for each message':32}{'ours':>10}{'all':>10}")
    for name, cost in found.paths.items():
        print(f"{name:32}{cost.ours:>10.0f}{cost.all:>10.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make instructions", description=__doc__)
    parser.add_argument("--save", action="store_true", help=f"write what was counted to {TABLE.name}")
    args = parser.parse_args()
    try:
        found = count()
    except Failed as error:
        print(error, file=sys.stderr)
        return 2
    show(found)
    table = table_of(json.loads(TABLE.read_text())) if TABLE.exists() else []
    verdict = judge(found, table)
    print(f"\nCompared with {verdict.against}.")
    for note in verdict.notes:
        print(f"  {note}")
    for objection in verdict.objections:
        print(f"  MORE EXPENSIVE: {objection}")
    if args.save:
        entries = [dataclasses.asdict(entry) for entry in with_entry(table, found)]
        TABLE.write_text(json.dumps(entries, indent=1) + "\n")
        print(f"saved in {TABLE.name}")
        return 0
    if verdict.objections:
        print("If that is what the change is worth: make instructions ARGS=--save, and commit it.")
    elif verdict.notes:
        print("To hold on to that: make instructions ARGS=--save, and commit it.")
    return 1 if verdict.objections else 0


if __name__ == "__main__":
    sys.exit(main())
