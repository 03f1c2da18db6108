"""
The command: `python -m fastws bench URL`.

In: options. Out: figures on the terminal and in files; the exit status is 0 when all went well, 1 when an
answer was wrong, a connection failed or a `--fail-if` was met, 2 for options that make no sense, 130 for
Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import click

from fastws.bench.observing import ObservingError, Processes
from fastws.bench.plan import (
    KINDS,
    MODES,
    PER_SOURCE,
    Plan,
    PlanError,
    check_cores,
    parse_cores,
    parse_header,
    parse_rate,
    parse_sizes,
)
from fastws.bench.target import Target, TargetError, find

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
NICENESS = 5  # of the process that adds up and draws


@click.command(context_settings={"show_default": True})
@click.argument("url")
@click.option("-m", "--mode", default="echo", type=click.Choice(MODES), help="What to load the server with.")
@click.option(
    "-c", "--connections", default=64, type=click.IntRange(1), help="Of all processes; in storm, at a time."
)
@click.option(
    "-i", "--in-flight", default=1, type=click.IntRange(1), help="Messages on each connection at a time."
)
@click.option(
    "-r",
    "--rate",
    help='Messages a second, "500" or "50k", sent whether answers have come or not; latency counts from '
    "when each was due.  [default: as fast as answers come]",
)
@click.option("-d", "--duration", default=10.0, type=click.FloatRange(0.1), help="Seconds that are measured.")
@click.option("--warmup", default=1.0, type=click.FloatRange(0), help="Seconds of the same load before.")
@click.option(
    "-s",
    "--size",
    help='Payload bytes: "64", "1k"; with weights, "64:0.9,16k:0.1".  [default: 64, of ticker 1k]',
)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="Of messages: binary; ASCII text; UTF-8 of all lengths; a market's news as JSON.  "
    "[default: binary, with --deflate ticker]",
)
@click.option("--fragments", default=1, type=click.IntRange(1), help="Frames for each message.")
@click.option("--deflate", is_flag=True, help="Offer permessage-deflate, and compress.")
@click.option("--server-no-context", is_flag=True, help="With --deflate: server_no_context_takeover.")
@click.option("--ramp", default=0.0, type=click.FloatRange(0), help="Seconds over which connections open.")
@click.option(
    "-p", "--processes", default=1, type=click.IntRange(1), help="Share connections and rate; one core each."
)
@click.option(
    "--sources",
    type=click.IntRange(1, 2**16),
    help="Addresses in 127.0.0.0/8 to connect from.  [default: as many as the connections need]",
)
@click.option(
    "--stuck", default=0, type=click.IntRange(0), help="In fanout, connections that read nothing at all."
)
@click.option(
    "--expect",
    "expected",
    default="echo",
    type=click.Choice(["echo", "any"]),
    help="Answers that equal their messages, or any: those are counted.",
)
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="For the request; repeatable."
)
@click.option("--subprotocol", "subprotocols", multiple=True, help="To offer; repeatable.")
@click.option("--plain-request", is_flag=True, help="Only the header fields that are required.")
@click.option("--insecure", is_flag=True, help="Do not verify the server's certificate.")
@click.option("--cafile", type=click.Path(exists=True, dir_okay=False), help="Authorities to trust (PEM).")
@click.option("--allow-remote", is_flag=True, help="Load a server outside this machine and private networks.")
@click.option(
    "--timeout", default=20.0, type=click.FloatRange(0.1), help="Seconds to wait for what does not come."
)
@click.option(
    "--server-pid",
    "server_pids",
    multiple=True,
    type=click.IntRange(1),
    metavar="PID",
    help="Measure this process's processor time and memory; repeatable.",
)
@click.option("--server-tree", is_flag=True, help="With --server-pid: and of all that it has started.")
@click.option("--cpu", metavar="LIST", help='Pin the load\'s processes to these cores, "1" or "2-5".')
@click.option("--seed", default=0, type=click.IntRange(0, 2**32), help="For other payloads, equally random.")
@click.option("--strict", is_flag=True, help="End at the first error.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write a report; - is stdout.",
)
@click.option("--html", "html_file", type=click.Path(dir_okay=False), help="Write a page with charts.")
@click.option(
    "--fail-if", "conditions", multiple=True, metavar="EXPR", help='Exit with 1 if so: "p99>5ms"; repeatable.'
)
@click.option("-q", "--quiet", is_flag=True, help="Print only what failed, and warnings.")
def bench(
    url: str,
    server_pids: tuple[int, ...],
    server_tree: bool,
    allow_remote: bool,
    json_file: str | None,
    html_file: str | None,
    conditions: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """
    Load the WebSocket server at URL, check every answer, and measure.

    \b
    echo    every connection sends, and waits for its answers
    fanout  one connection sends, the server sends it to all
    storm   connections open, and are dropped
    idle    connections are held

    For example:

        python -m fastws bench ws://127.0.0.1:8765/ -c 1000 --html report.html --fail-if "p99>5ms"
    """
    try:
        from fastws._load import LoadError  # noqa: F401
    except ImportError as error:
        raise click.ClickException(f"the load generator needs Linux: {error}") from error
    try:
        from fastws.bench import judging, page, report, rows, screen
        from fastws.bench.conducting import Conductor, Watcher
    except ImportError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise click.ClickException(
            f"the load generator needs the module {missing}: pip install 'fastws[bench]'"
        ) from error

    try:
        target = find(url, allow_remote=allow_remote)
        plan = plan_of(options, target)
        failing = tuple(judging.parse_condition(text) for text in conditions)
        for condition in failing:
            judging.check_condition(condition, plan.mode, server_known=bool(server_pids))
        server = Processes(server_pids, tree=server_tree) if server_pids else None
    except (PlanError, TargetError, ObservingError, judging.ConditionError) as error:
        raise click.UsageError(str(error)) from error
    for file in (json_file, html_file):
        check_writable(file)

    began = datetime.now(timezone.utc)
    # Progress is not what a pipe is for, nor is a table where JSON goes.
    console: IO[str] = sys.stderr if json_file == "-" else sys.stdout
    watching = nullcontext(Watcher()) if quiet else screen.Screen(plan, target.url, sys.stderr)
    with watching as watcher:
        try:
            outcome = Conductor(plan, target, server, watcher, niceness=NICENESS).run()
        except PlanError as error:
            raise click.UsageError(str(error)) from error
    document = report.report(plan, target, outcome, failing, began)
    if not quiet:
        screen.show(document, console)
    else:
        for failed, text in rows.verdicts(document):
            click.echo(f"{'failed' if failed else 'warning'}: {text}", err=True)
    if json_file is not None:
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        if json_file == "-":
            sys.stdout.write(text)
        else:
            Path(json_file).write_text(text, encoding="utf-8")
    if html_file is not None:
        Path(html_file).write_text(page.page(document), encoding="utf-8")
    if outcome.interrupted:
        sys.exit(EXIT_INTERRUPTED)
    if not document["passed"]:
        sys.exit(EXIT_FAILED)


def plan_of(options: dict[str, Any], target: Target) -> Plan:
    """
    Return the plan that options describe.

    Raises: PlanError.
    """
    cpu = options.pop("cpu")
    cores = parse_cores(cpu) if cpu is not None else ()
    check_cores(cores, os.sched_getaffinity(0))
    kind = options.pop("kind") or ("ticker" if options["deflate"] else "binary")
    size = options.pop("size") or ("1k" if kind == "ticker" else "64")
    rate = options.pop("rate")
    sources = options.pop("sources")
    if sources is None:
        sources = max(-(-options["connections"] // PER_SOURCE), 1) if target.is_loopback else 1
    elif sources > 1 and not target.is_loopback:
        raise PlanError(f"{sources} sources are asked for, but {target.describe()} is not in 127.0.0.0/8")
    plan = Plan(
        sizes=parse_sizes(size),
        headers=tuple(parse_header(text) for text in options.pop("headers")),
        rate=None if rate is None else parse_rate(rate),
        kind=kind,
        sources=sources,
        cores=cores,
        **options,
    )
    plan.check()
    return plan


def check_writable(file: str | None) -> None:
    """Find out before the run, not after it. Raises: click.UsageError."""
    if file is None or file == "-":
        return
    folder = Path(file).absolute().parent
    if not os.access(file if os.path.exists(file) else folder, os.W_OK):
        raise click.UsageError(f"{file} cannot be written")
