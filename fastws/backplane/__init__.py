"""Backplanes: what one server publishes reaches the subscribers of all. docs/backplane.md is for users.

local:///run/app    the servers of one host, over Unix sockets in that directory
redis://host        Redis or Valkey; `rediss` with TLS, `unix` for its socket
nats://host         NATS; `tls` with TLS
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastws.backplane.engine import Backplane, BackplaneStats
from fastws.backplane.relay import Relay
from fastws.backplane.roster import Presence

if TYPE_CHECKING:
    from fastws.backplane.engine import Receiver

__all__ = ["Backplane", "BackplaneStats", "Presence", "Relay", "engine_of"]

# Bytes that may wait for the engine, or for one other server with `local`.
LIMIT = 8 * 1024 * 1024


def engine_of(backplane: object) -> Callable[[Receiver], Backplane] | None:
    """
    Return what makes the backplane that `serve` was told of.

    Args:
        backplane: a URL, or a function that makes a `Backplane` for a `Receiver`. None: the URL that the
            environment has as FASTWS_BACKPLANE, or none. "": none.

    Raises: ValueError for another URL; ImportError when the library that it needs is not installed, with
        what to install.
    """
    if backplane is None:
        backplane = os.environ.get("FASTWS_BACKPLANE", "")
    if callable(backplane):
        return backplane
    if not isinstance(backplane, str):
        raise TypeError(f"backplane is {backplane!r}, expected a URL")
    if not backplane:
        return None
    url = backplane
    scheme = urlsplit(url).scheme
    if scheme == "local":
        parts = urlsplit(url)
        if parts.netloc or not parts.path or parts.query:
            raise ValueError(f"backplane is {url!r}, expected local:///directory")
        from fastws.backplane.local import LocalBackplane

        return lambda receiver: LocalBackplane(parts.path, receiver, LIMIT)
    if scheme in ("redis", "rediss", "unix"):
        from fastws.backplane.over_redis import RedisBackplane, opened

        opened(url, 0.0)  # before anything else is
        return lambda receiver: RedisBackplane(url, receiver, LIMIT)
    if scheme in ("nats", "tls"):
        from fastws.backplane.over_nats import NatsBackplane

        return lambda receiver: NatsBackplane(url, receiver, LIMIT)
    raise ValueError(f"backplane is {url!r}, expected local:///directory, redis://host or nats://host")
