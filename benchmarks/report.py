"""
Write the report of a run from its raw figures, and put a run into the README.

    report.py DIR              writes report.md and the charts beside DIR/results.json
    report.py DIR --readme     puts its chart and table into README.md, between the markers
    report.py DIR --check      the status is 0 when README.md has just that

Charts need matplotlib; without it the report has none.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import recording
import tables
from installing import HERE

README = HERE.parent / "README.md"
FROM, TO = "<!-- from here: benchmarks/report.py -->", "<!-- to here: benchmarks/report.py -->"
ALT = {
    "rate.svg": "how many messages each server answers in a second",
    "cpu.svg": "processor time of each server for a message",
    "memory.svg": "memory of each server for a connection",
    "latency.svg": "latency of each server at half of the rate that it reached",
}
TITLES = {
    "rate.svg": "Rate",
    "cpu.svg": "Processor time for a message",
    "memory.svg": "Memory for a connection",
    "latency.svg": "Latency at half load",
}


def write(place: Path) -> None:
    """Write report.md and the charts of the run in a folder."""
    results = recording.read(place)
    try:
        import charts  # it needs matplotlib, and the figures do not need it
    except ImportError as error:
        print(f"no charts: {error}", file=sys.stderr)
        written = []
    else:
        written = charts.draw(results, place)
    (place / "report.md").write_text(report(results, written))


def report(results: dict[str, Any], written: list[str]) -> str:
    about, options = results["machine"], results["options"]
    commit = (
        f"`{results['commit'][:12]}`{' with changes' if results['changed'] else ''}"
        if results["commit"]
        else "unknown"
    )
    lines = [
        f"# {results['date'][:10]}, {about['processor']}, {about['cores']} cores",
        "",
        f"    {results['command']}",
        "",
        f"Commit {commit}; {options['rounds']} rounds of {options['seconds']:g} s, {results['minutes']:g} "
        f"minutes in all; {about['kernel']}, "
        f"{about['memory_gib']:g} GiB; servers on core {about['server_core']}, "
        f"{recording.said(about['load_cores'])}.",
        "",
        "[benchmarks/README.md](../../README.md) says how it is measured and how to read it. Figures are "
        "medians over the rounds, and servers in the order of processor time or memory. One has a rank when "
        "every answer was right and its core was full in every round.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {version} |" for name, version in results["versions"].items()),
        "",
    ]
    for file, title in TITLES.items():
        if file in written:
            lines += [f"## {title}", "", f"![{ALT[file]}]({file})", ""]
    lines += ["## Figures", ""]
    for name, cell in results["cells"].items():
        lines += [f"### {name}: {cell['description']}", "", tables.markdown(cell), ""]
    return "\n".join(lines).rstrip() + "\n"


# ---- the README


def for_readme(place: Path) -> str:
    """Return the chart, a table and the command of a run."""
    results = recording.read(place)
    about, cells = results["machine"], results["cells"]
    where = place.resolve().relative_to(README.parent).as_posix()
    wanted = (
        ("echo-64", "rate", "64 B echo, /s", 0),
        ("echo-64", "server_cpu_us", "CPU us each", 2),
        ("echo-64", "half_p99_us", "p99 at half load, us", 0),
        ("echo-64x16", "rate", "16 in flight, /s", 0),
        ("fanout", "rate", "fan-out, deliveries/s", 0),
        ("memory", "bytes", "bytes/connection", 0),
    )
    found = {name: {row.server: row for row in tables.rows(cell)} for name, cell in cells.items()}
    shown = [
        it for it in wanted if it[0] in found and any(it[1] in row.figures for row in found[it[0]].values())
    ]
    servers = [row.server for row in tables.rows(cells["echo-64"])]
    lines = [
        f"![messages that each server echoes in a second]({where}/overview.svg)",
        "",
        "| server | " + " | ".join(heading for _, _, heading, _ in shown) + " |",
        "|---|" + "---:|" * len(shown),
    ]
    for server in servers:
        texts = [
            tables.written(found[cell][server], key, digits) if server in found[cell] else ""
            for cell, key, _, digits in shown
        ]
        lines.append(f"| {server} | " + " | ".join(texts) + " |")
    if any("(" in line for line in lines[4:]):
        lines += [
            "",
            "In parentheses: the rate of a server that was not saturated, and could have gone faster.",
        ]
    lines += [
        "",
        f"[The whole report]({where}/report.md): {about['processor']}, {about['kernel']}, one core for the "
        f"server, {results['date'][:10]}. The same on your machine:",
        "",
        f"    {'make bench-full' if results['options']['full'] else 'make bench'}",
    ]
    return "\n".join(lines)


def with_block(text: str, block: str) -> str:
    """Return a text with what is between the markers replaced. Raises ValueError where there are none."""
    before, start, rest = text.partition(FROM)
    _, end, after = rest.partition(TO)
    if not start or not end:
        raise ValueError(f"no {FROM if not start else TO}")
    return f"{before}{FROM}\n{block}\n{TO}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the report of a run from its raw figures.")
    parser.add_argument("place", type=Path, metavar="DIR")
    parser.add_argument("--readme", action="store_true", help="put its chart and table into README.md")
    parser.add_argument("--check", action="store_true", help="fail when README.md has something else")
    options = parser.parse_args()
    if not (options.readme or options.check):
        write(options.place)
        return 0
    text = README.read_text()
    wanted = with_block(text, for_readme(options.place))
    if options.readme:
        README.write_text(wanted)
    return int(options.check and text != wanted)


if __name__ == "__main__":
    sys.exit(main())
