"""The rows of the comparison: what the load does, and what the servers are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from competitors import YARDSTICK

IDLE_CONNECTIONS = 10_000


@dataclass(frozen=True)
class Cell:
    """
    One row of the comparison.

    load: arguments for the load; the first is its mode.
    server: arguments for the servers; who cannot do what they ask for is left out.
    alone: arguments for a run of the load beside each, with whose p99 latency to compare.
    unit: what is counted.
    rounds: fewer than asked for, where another one tells nothing new.
    note: what a fair reader has to know.
    """

    name: str
    description: str
    load: tuple[str, ...]
    server: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    unit: str = "message"
    rounds: int | None = None
    note: str = ""


def echo(connections: int, size: int, *more: str) -> tuple[str, ...]:
    return ("echo", "-c", str(connections), "-s", str(size), *more)


def fanout(connections: int, size: int, *more: str) -> tuple[str, ...]:
    return ("fanout", "-c", str(connections), "-s", str(size), *more)


STR, BYTES = ("--mode", "str"), ("--mode", "bytes")
ASGI = ("--asgi",)
NO_STR = f"{YARDSTICK} neither validates nor decodes text"
UNCHECKED = f"{YARDSTICK} and picows do not validate this text as UTF-8; the others do"
STUCK = "of what waits for a stuck one picows and websockets keep all; the others drop what is over 64 KiB"
LEVELS = "each server compresses as well as it does by default: compare the bytes on the wire, too"
CELLS = [
    Cell("echo-64", "64-byte binary messages, 64 connections", echo(64, 64)),
    Cell("echo-64x16", "the same, 16 messages in flight on each connection", echo(64, 64, "-p", "16")),
    Cell(
        "text-128",
        "128-byte ASCII text as str, 64 connections",
        echo(64, 128, "--kind", "ascii"),
        STR,
        note=NO_STR,
    ),
    Cell(
        "text-16k",
        "16 KiB of mixed text as bytes, 8 connections",
        echo(8, 16 * 1024, "--kind", "mixed"),
        BYTES,
        note=UNCHECKED,
    ),
    Cell(
        "text-16k-str",
        "16 KiB of mixed text as str, 8 connections",
        echo(8, 16 * 1024, "--kind", "mixed"),
        STR,
        note=NO_STR,
    ),
    Cell("echo-64k", "64 KiB binary messages, 8 connections", echo(8, 64 * 1024)),
    Cell("echo-1m", "1 MiB binary messages, 2 connections", echo(2, 1024 * 1024)),
    Cell("asgi-64", "64-byte binary messages, 64 connections, an ASGI application", echo(64, 64), ASGI),
    Cell("asgi-64k", "64 KiB binary messages, 8 connections, an ASGI application", echo(8, 64 * 1024), ASGI),
    Cell(
        "handshake",
        "connect, upgrade with a browser's header fields, drop; 32 at a time",
        ("handshake", "-c", "32"),
        unit="handshake",
    ),
    Cell(
        "memory",
        f"user-space memory of the server, {IDLE_CONNECTIONS:,} idle connections",
        ("idle", "-c", str(IDLE_CONNECTIONS)),
        unit="connection",
        rounds=1,
    ),
    Cell(
        "fanout",
        "128-byte messages to 1,000 subscribers, one at a time",
        fanout(1000, 128),
        ("--broadcast",),
        unit="delivery",
    ),
    Cell(
        "fanout-x10",
        "the same, 10 messages published together",
        fanout(1000, 128, "-p", "10"),
        ("--broadcast",),
        unit="delivery",
    ),
    Cell(
        "fanout-10k",
        "128-byte messages to 10,000 subscribers, one at a time",
        fanout(10_000, 128),
        ("--broadcast",),
        unit="delivery",
    ),
    Cell(
        "fanout-stuck",
        "128 bytes to 1,000 subscribers, 10 of whom never read; p99 alone is that with 1,000 who read",
        fanout(1000, 128, "--stuck", "10"),
        ("--broadcast",),
        fanout(1000, 128),
        unit="delivery",
        note=STUCK,
    ),
    Cell(
        "deflate-1k",
        "1 KiB of JSON as text, compressed both ways, 64 connections",
        echo(64, 1024, "--deflate"),
        ("--deflate",),
        note=LEVELS,
    ),
    Cell(
        "deflate-broadcast",
        "1 KiB of JSON as text, compressed, to 1,000 subscribers, one at a time",
        fanout(1000, 1024, "--deflate"),
        ("--broadcast", "--deflate"),
        unit="delivery",
        note=LEVELS,
    ),
]
