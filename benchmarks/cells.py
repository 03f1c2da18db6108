"""The rows of the comparison: what the load does, and what the servers are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from competitors import YARDSTICK
from load import Load

IDLE_CONNECTIONS = 10_000
IDLE_OVER_TLS = 5_000  # each is a handshake of a millisecond or two


@dataclass(frozen=True)
class Cell:
    """
    One row of the comparison.

    load: what the clients do.
    server: arguments for the servers.
    main: in `make bench` as well as in `make bench-full`.
    half_load: followed by an open loop at half of the rate that the server reached, for its latency.
    alone: a load for a run beside each, with whose p99 latency to compare.
    unit: what is counted.
    rounds: fewer than asked for, where another one tells nothing new.
    note: what a fair reader has to know.
    """

    name: str
    description: str
    load: Load
    server: tuple[str, ...] = ()
    main: bool = False
    half_load: bool = False
    alone: Load | None = None
    unit: str = "message"
    rounds: int | None = None
    note: str = ""

    @property
    def needs(self) -> frozenset[str]:
        """What a server must be able to do, in the words of Competitor.lacks."""
        wanted = {"--tls": self.load.tls, "--stuck": bool(self.load.stuck)}
        return frozenset(self.server) | {name for name, is_needed in wanted.items() if is_needed}


def echo(connections: int, size: int, **more: Any) -> Load:
    return replace(Load("echo", connections, size), **more)


def fanout(connections: int, size: int, **more: Any) -> Load:
    return replace(Load("fanout", connections, size), **more)


STR, BYTES = ("--mode", "str"), ("--mode", "bytes")
BROADCAST, DEFLATE = ("--broadcast",), ("--deflate",)
NO_STR = f"{YARDSTICK} neither validates nor decodes text"
UNCHECKED = f"{YARDSTICK} and picows do not validate this text as UTF-8; the others do"
STUCK = (
    "of what waits for a stuck one picows, websockets, tornado, node and deno keep all; "
    "the others drop what is over 64 KiB"
)
LEVELS = "each server compresses as well as it does by default: compare the bytes on the wire, too"
CELLS = [
    Cell("echo-64", "64-byte binary messages, 64 connections", echo(64, 64), main=True, half_load=True),
    Cell(
        "echo-64x16",
        "64-byte binary messages, 64 connections, 16 in flight on each",
        echo(64, 64, in_flight=16),
        main=True,
    ),
    Cell(
        "text-128",
        "128-byte ASCII text as str, 64 connections",
        echo(64, 128, kind="text"),
        STR,
        note=NO_STR,
    ),
    Cell(
        "text-16k",
        "16 KiB of mixed text as bytes, 8 connections",
        echo(8, 16 * 1024, kind="utf8"),
        BYTES,
        note=UNCHECKED,
    ),
    Cell(
        "text-16k-str",
        "16 KiB of mixed text as str, 8 connections",
        echo(8, 16 * 1024, kind="utf8"),
        STR,
        note=NO_STR,
    ),
    Cell("echo-64k", "64 KiB binary messages, 8 connections", echo(8, 64 * 1024)),
    Cell("echo-1m", "1 MiB binary messages, 2 connections", echo(2, 1024 * 1024)),
    Cell(
        "tls-64",
        "64-byte binary messages over TLS, 64 connections",
        echo(64, 64, tls=True),
        half_load=True,
    ),
    Cell("tls-64k", "64 KiB binary messages over TLS, 8 connections", echo(8, 64 * 1024, tls=True)),
    Cell(
        "handshake",
        "connect, upgrade with a browser's header fields, drop; 32 at a time",
        Load("storm", 32),
        unit="handshake",
    ),
    Cell(
        "memory",
        f"user-space memory of the server, {IDLE_CONNECTIONS:,} idle connections",
        Load("idle", IDLE_CONNECTIONS),
        main=True,
        unit="connection",
        rounds=1,
    ),
    Cell(
        "tls-memory",
        f"user-space memory of the server, {IDLE_OVER_TLS:,} idle connections over TLS",
        Load("idle", IDLE_OVER_TLS, tls=True),
        unit="connection",
        rounds=1,
    ),
    Cell(
        "fanout",
        "128-byte messages to 1,000 subscribers, one at a time",
        fanout(1000, 128),
        BROADCAST,
        main=True,
        unit="delivery",
    ),
    Cell(
        "fanout-x10",
        "128-byte messages to 1,000 subscribers, 10 published together",
        fanout(1000, 128, in_flight=10),
        BROADCAST,
        unit="delivery",
    ),
    Cell(
        "fanout-10k",
        "128-byte messages to 10,000 subscribers, one at a time",
        fanout(10_000, 128),
        BROADCAST,
        unit="delivery",
    ),
    Cell(
        "fanout-stuck",
        "128 bytes to 1,000 subscribers, 10 of whom never read; p99 alone is that with 1,000 who read",
        fanout(1000, 128, stuck=10),
        BROADCAST,
        alone=fanout(1000, 128),
        unit="delivery",
        note=STUCK,
    ),
    Cell(
        "deflate-1k",
        "1 KiB of JSON as text, compressed both ways, 64 connections",
        echo(64, 1024, kind="ticker", deflate=True),
        DEFLATE,
        note=LEVELS,
    ),
    Cell(
        "deflate-broadcast",
        "1 KiB of JSON as text, compressed, to 1,000 subscribers, one at a time",
        fanout(1000, 1024, kind="ticker", deflate=True),
        BROADCAST + DEFLATE,
        unit="delivery",
        note=LEVELS,
    ),
]
BY_NAME = {cell.name: cell for cell in CELLS}
