"""The command line: `python -m fastws serve module:handler` and `python -m fastws bench URL`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

try:
    import click
except ImportError:  # pragma: no cover - the message is the behaviour
    sys.exit("the command line needs click: pip install 'fastws[cli]'")

from fastws._kernels import kernels
from fastws.draining import RATE, TIMEOUT
from fastws.forwarded import SOURCES
from fastws.running import run
from fastws.supervisor import WorkersFailed
from fastws.targets import TargetError, load_target
from fastws.version import __version__

F = TypeVar("F", bound=Callable[..., object])


def figure(name: str, default: float, text: str) -> Callable[[F], F]:
    """Return an option for seconds, or so many a second; 0 is read as "off"."""
    return click.option(
        name,
        default=default,
        type=click.FloatRange(0),
        callback=lambda _context, _option, value: value or None,
        help=text,
    )


class Commands(click.Group):
    """Imports the load generator only when it is asked for: serving needs none of it."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(context), "bench"])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command by its name; None where there is none."""
        if name == "bench":
            from fastws.bench.command import bench

            return bench
        return super().get_command(context, name)


@click.group(cls=Commands)
@click.version_option(__version__, message=f"fastws %(version)s (kernels {kernels()})")
def main() -> None:
    """fastws: a WebSocket server for Python, and a load generator for any."""


@main.command(context_settings={"show_default": True})
@click.argument("target", metavar="MODULE:HANDLER")
@click.option(
    "--host", default="127.0.0.1", help="Name or address to listen on; 0.0.0.0 is every IPv4 interface."
)
@click.option("--port", default=8765, type=click.IntRange(0, 65535), help="TCP port; 0 picks a free one.")
@click.option("--unix", metavar="PATH", help="Listen on a Unix socket instead.")
@click.option(
    "--lifespan",
    metavar="MODULE:FUNCTION",
    help="An async context manager around the server's life, called with it: where a producer runs.",
)
@click.option(
    "--certfile", metavar="FILE", help="Serve wss, with this certificate chain (PEM); SIGHUP reads it again."
)
@click.option("--keyfile", metavar="FILE", help="Its key (PEM), if it is not in the same file.")
@click.option(
    "--workers", type=click.IntRange(1), help="Serve with so many processes.  [default: with this one]"
)
@click.option("--reload", is_flag=True, help="Start workers anew when a Python file here changes.")
@click.option(
    "--reload-dir", multiple=True, metavar="DIR", help="Watch this instead; may be given several times."
)
@figure("--drain-rate", RATE, "Connections a second that a process closes at its end; 0: all at once.")
@figure("--drain-timeout", TIMEOUT, "Seconds for that end; 0: any time.")
@figure("--stall-timeout", 60.0, "Seconds that a worker may be stuck until it is replaced; 0: for ever.")
@click.option(
    "--backplane",
    metavar="URL",
    help='Publish to other servers as well: local:///directory, redis://host, nats://host; "" is none.  '
    "[default: FASTWS_BACKPLANE, or with --workers or --reload these]",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDRESS",
    help="Believe this proxy, or network of proxies, who the client is; may be given several times.",
)
@click.option(
    "--address-from",
    default=SOURCES[0],
    type=click.Choice(SOURCES, case_sensitive=False),
    help="How trusted proxies say it: a header field, or the PROXY protocol.",
)
@click.option(
    "--max-size", default=2**20, type=click.IntRange(0), help="Largest message, in bytes; 0: no limit."
)
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    help="Most open connections.  [default: the descriptor limit less 256]",
)
@figure("--ping-interval", 20.0, "Seconds between keepalive Pings; 0: none.")
@figure("--ping-timeout", 20.0, "Seconds without a byte after a Ping until a peer is dropped; 0: never.")
@figure("--open-timeout", 10.0, "Seconds for the opening handshake; 0: no limit.")
@figure("--close-timeout", 10.0, "Seconds for the closing handshake; 0: no limit.")
@click.option(
    "--compression",
    type=click.Choice(["deflate"]),
    help="Compress messages with clients that offer it.  [default: never]",
)
@click.option("--text-as", default="str", type=click.Choice(["str", "bytes"]), help="How handlers get text.")
@click.option(
    "--log-level",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Least severe records to print.",
)
def serve(
    target: str, log_level: str, max_size: int, reload: bool, reload_dir: tuple[str, ...], **options: Any
) -> None:
    """
    Serve MODULE:HANDLER until SIGINT (Ctrl-C) or SIGTERM.

    HANDLER is a coroutine function that takes a connection, a class with on_message, an
    object with it, or a factory that returns one;
    MODULE is looked for in the current directory, too. For example:

        python -m fastws serve examples.echo:Echo --port 9000

    With --workers, SIGHUP starts them anew, one after another, and no connection is refused.
    """
    several = options["workers"] is not None or reload or bool(reload_dir)
    process = " %(processName)s" if several else ""
    logging.basicConfig(
        level=log_level.upper(), format=f"%(asctime)s %(levelname)s{process} %(name)s: %(message)s"
    )
    source = click.get_current_context().get_parameter_source
    if source("address_from") is click.core.ParameterSource.COMMANDLINE and not options["trusted_proxies"]:
        raise click.UsageError("--address-from: nobody is believed without --trusted-proxy")
    if options["unix"] is None:
        del options["unix"]
    else:
        given = [n for n in ("host", "port") if source(n) is click.core.ParameterSource.COMMANDLINE]
        if given:
            raise click.UsageError(f"--unix and --{given[0]}: give one or the other")
    options["trusted_proxies"] = options["trusted_proxies"] or None
    handler: object = target
    if not several:
        try:
            handler = load_target(target)
        except TargetError as error:
            raise click.BadParameter(str(error)) from None
    try:
        run(
            handler,
            options.pop("host"),
            options.pop("port"),
            max_size=max_size or None,
            reload=reload_dir or reload,
            started=click.echo,
            **options,
        )
    except (OSError, TypeError, ValueError, WorkersFailed) as error:
        raise click.ClickException(str(error)) from error
