"""The command line: `python -m fastws serve module:handler` and `python -m fastws bench URL`."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any

try:
    import click
except ImportError:  # pragma: no cover - the message is the behaviour
    sys.exit("the command line needs click: pip install 'fastws[cli]'")

from fastws._kernels import kernels
from fastws.running import describe, run
from fastws.server import Server
from fastws.version import __version__


def load(target: str) -> object:
    """
    Import what `module:name` names; `name` may have dots.

    Raises: click.BadParameter, saying which part was not found.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise click.BadParameter(f"{target!r} is not of the form module:handler, as in examples.echo:Echo")
    sys.path.insert(0, os.getcwd())
    try:
        thing: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise click.BadParameter(
            f"there is no module {error.name!r} (looked in {os.getcwd()} and sys.path)"
        ) from None
    for name in path.split("."):
        try:
            thing = getattr(thing, name)
        except AttributeError:
            raise click.BadParameter(f"{module_name!r} has no {path!r}") from None
    return thing


def seconds(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Read 0 as "off"."""
    return value or None


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
    "--certfile", metavar="FILE", help="Serve wss, with this certificate chain (PEM); SIGHUP reads it again."
)
@click.option("--keyfile", metavar="FILE", help="Its key (PEM), if it is not in the same file.")
@click.option(
    "--max-size", default=2**20, type=click.IntRange(0), help="Largest message, in bytes; 0: no limit."
)
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    help="Most open connections.  [default: the descriptor limit less 256]",
)
@click.option(
    "--ping-interval",
    default=20.0,
    type=click.FloatRange(0),
    callback=seconds,
    help="Seconds between keepalive Pings; 0: none.",
)
@click.option(
    "--ping-timeout",
    default=20.0,
    type=click.FloatRange(0),
    callback=seconds,
    help="Seconds without a byte after a Ping until a peer is dropped; 0: never.",
)
@click.option(
    "--open-timeout",
    default=10.0,
    type=click.FloatRange(0),
    callback=seconds,
    help="Seconds for the opening handshake; 0: no limit.",
)
@click.option(
    "--close-timeout",
    default=10.0,
    type=click.FloatRange(0),
    callback=seconds,
    help="Seconds for the closing handshake; 0: no limit.",
)
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
def serve(target: str, log_level: str, max_size: int, **options: Any) -> None:
    """
    Serve MODULE:HANDLER until SIGINT (Ctrl-C) or SIGTERM.

    HANDLER is a coroutine function that takes a connection, a class with on_message, an
    object with it, or a factory that returns one;
    MODULE is looked for in the current directory, too. For example:

        python -m fastws serve examples.echo:Echo --port 9000
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options["unix"] is None:
        del options["unix"]
    else:
        source = click.get_current_context().get_parameter_source
        given = [n for n in ("host", "port") if source(n) is click.core.ParameterSource.COMMANDLINE]
        if given:
            raise click.UsageError(f"--unix and --{given[0]}: give one or the other")
    handler = load(target)

    def ready(server: Server) -> None:
        click.echo(describe(server))

    try:
        run(
            handler,
            options.pop("host"),
            options.pop("port"),
            max_size=max_size or None,
            ready=ready,
            **options,
        )
    except (OSError, TypeError, ValueError) as error:
        raise click.ClickException(str(error)) from error
