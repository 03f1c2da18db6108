"""The backplane that workers of one program have when they are not told of another.

In: what `run` was given. Out: a directory for their sockets, and at a worker's start what the others keep.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from typing import TYPE_CHECKING, Any

from fastws.backplane.engine import wait_while_it_goes_on

if TYPE_CHECKING:
    from fastws.backplane.relay import Relay

# Bytes of a directory's name where a socket's path is to fit behind it.
MAX_DIRECTORY = 81
# Seconds until a worker serves without what others keep: while nothing of it comes, and in all.
SETTLE = 2.0
SETTLED = 30.0


def has_backplane(options: dict[str, Any]) -> bool:
    """Tell whether workers were told how to publish to each other, or not to."""
    return options.get("backplane") is not None or "FASTWS_BACKPLANE" in os.environ


def directory_for_sockets() -> str:
    """Make a directory of our own, with a name that leaves room for a socket's (108 bytes on Linux)."""
    directory = tempfile.mkdtemp(prefix="fastws-")
    if len(os.fsencode(directory)) > MAX_DIRECTORY:
        os.rmdir(directory)
        directory = tempfile.mkdtemp(prefix="fastws-", dir="/tmp")
    return directory


def remove_directory_for_sockets(backplane: object) -> None:
    """Remove the directory of this URL, if it is empty and its name one that we make."""
    if isinstance(backplane, str) and backplane.startswith("local://"):
        directory = backplane.removeprefix("local://")
        if os.path.basename(directory).startswith("fastws-"):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


async def settle(backplane: Relay) -> None:
    """Wait until what others keep is here, as long as it goes on coming."""
    settling = asyncio.ensure_future(backplane.settle())
    try:
        await wait_while_it_goes_on(settling, lambda: backplane.engine.fetched, SETTLE, SETTLED)
    finally:
        settling.cancel()
    if settling.done():
        with contextlib.suppress(ConnectionError):
            settling.result()
