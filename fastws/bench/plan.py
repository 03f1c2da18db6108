"""
What a load is: sizes, connections, how fast; and each process's share of it.

In: options of the command line, as text and numbers. Out: a `Plan`, and arguments of `fastws._load.Load`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastws.bench.target import Target

KINDS = ("binary", "text", "utf8", "ticker")
MODES = ("echo", "fanout", "storm", "idle")
# What is counted in each, and whose latency it is.
UNITS = {"echo": "message", "fanout": "delivery", "storm": "handshake", "idle": "connection"}
PLURALS = {"echo": "messages", "fanout": "deliveries", "storm": "handshakes", "idle": "connections"}
MAX_SIZE = 64 * 2**20
PER_SOURCE = 20_000  # connections from one address to one port: Linux gives out 28,232 ports by default
# A sample stops the load for about 0.3 ms: from 0.5 s on that is under one message in a thousand, and out of
# p99.9. Short windows get a chart nevertheless.
INTERVALS = ((5.0, 0.1), (60.0, 0.5), (600.0, 1.0))
SERIES_POINTS = 600
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmM]?)(?:i?[bB])?")


class PlanError(ValueError):
    """What is asked for cannot be; the text says what was seen, and what is allowed."""


@dataclass(frozen=True)
class Plan:
    """
    One load.

    Attributes:
        mode: one of MODES.
        connections: of all processes; in storm, handshakes at a time.
        in_flight: messages on each connection, or published together, before an answer is waited for.
        rate: messages a second of all processes, sent when their time has come; None: when answers have.
        duration: seconds of the measured window.
        warmup: seconds before it, of the same load.
        sizes: payload bytes and weights.
        ramp: seconds over which connections are opened; 0: as fast as they open.
        timeout: seconds without a byte, where one is due, until a connection is given up.
        cores: processes are pinned to these, in turn; empty: to none.
        For the others see `fastws._load.Load`.
    """

    mode: str = "echo"
    connections: int = 64
    in_flight: int = 1
    rate: float | None = None
    duration: float = 10.0
    warmup: float = 1.0
    kind: str = "binary"
    sizes: tuple[tuple[int, float], ...] = ((64, 1.0),)
    fragments: int = 1
    deflate: bool = False
    server_no_context: bool = False
    ramp: float = 0.0
    processes: int = 1
    sources: int = 1
    stuck: int = 0
    expected: str = "echo"
    plain_request: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    subprotocols: tuple[str, ...] = ()
    insecure: bool = False
    cafile: str | None = None
    seed: int = 0
    strict: bool = False
    timeout: float = 20.0
    cores: tuple[int, ...] = field(default=())

    def check(self) -> None:
        """Raises: PlanError for what does not go together."""
        if self.processes > self.connections:
            raise PlanError(
                f"{self.processes} processes share {self.connections} connections: each needs one at least"
            )
        if self.mode == "fanout":
            if self.processes > 1:
                # Its one publisher goes on when all connections have had everything, so it has to see all.
                raise PlanError(f"fanout runs in 1 process, {self.processes} were asked for")
            if self.stuck >= self.connections:
                raise PlanError(
                    f"{self.stuck} of {self.connections} connections are stuck: the first must read"
                )
        elif self.stuck:
            raise PlanError(f"stuck connections are for fanout, the mode is {self.mode}")
        if self.mode in ("storm", "idle"):
            for name in ("rate", "deflate"):
                if getattr(self, name):
                    raise PlanError(f"{self.mode} sends no messages: it takes no {name}")
        if self.server_no_context and not self.deflate:
            raise PlanError("server_no_context is asked for without deflate")
        smallest = min(size for size, _ in self.sizes)
        if self.fragments > max(smallest, 1):
            raise PlanError(
                f"{self.fragments} fragments of a message of {smallest} bytes: each needs one byte at least"
            )

    @property
    def unit(self) -> str:
        """What is counted."""
        return UNITS[self.mode]

    @property
    def units(self) -> str:
        """Several of them."""
        return PLURALS[self.mode]

    @property
    def due(self) -> float | None:
        """What an open loop should get done in a second, in units."""
        if self.rate is None:
            return None
        return self.rate * (self.connections - self.stuck) if self.mode == "fanout" else self.rate

    @property
    def interval(self) -> float:
        """Seconds between two samples."""
        for longest, interval in INTERVALS:
            if self.duration < longest:
                return interval
        return float(math.ceil(self.duration / SERIES_POINTS))

    def shares(self, target: Target) -> list[dict[str, Any]]:
        """Return each process's arguments for `Load`."""
        shares = []
        for number in range(self.processes):
            connections = share_of(self.connections, self.processes, number)
            shares.append(
                {
                    **target.arguments(),
                    "headers": (*target.headers, *self.headers),
                    "subprotocols": self.subprotocols,
                    "mode": self.mode,
                    "connections": connections,
                    "in_flight": self.in_flight,
                    "rate": None if self.rate is None else self.rate * connections / self.connections,
                    "kind": self.kind,
                    "sizes": self.sizes,
                    "fragments": self.fragments,
                    "deflate": self.deflate,
                    "server_no_context": self.server_no_context,
                    "cafile": self.cafile,
                    "insecure": self.insecure,
                    "sources": self.sources,
                    "stuck": self.stuck,
                    "ramp": self.ramp,
                    "plain_request": self.plain_request,
                    "expected": self.expected,
                    # Two processes must not send the same.
                    "seed": self.seed * self.processes + number,
                    "strict": self.strict,
                    "timeout": self.timeout,
                }
            )
        return shares

    def core(self, number: int) -> int | None:
        """Return the core to pin a process to, if any."""
        return self.cores[number % len(self.cores)] if self.cores else None


def share_of(total: int, parts: int, number: int) -> int:
    """Return how many of `total` the part `number` gets; they differ by one at most."""
    return total // parts + (number < total % parts)


def parse_size(text: str) -> int:
    """
    Return a size in bytes, as in "64", "1k", "1.5M"; k and M are 1024 and its square.

    Raises: PlanError.
    """
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise PlanError(f"size is {text!r}, expected bytes, as in 64, 1k or 2M")
    size = float(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()]
    if size != int(size):
        raise PlanError(f"size is {text!r}, which is no whole number of bytes")
    if size > MAX_SIZE:
        raise PlanError(f"size is {int(size)} bytes, limit is {MAX_SIZE}")
    return int(size)


def parse_sizes(text: str) -> tuple[tuple[int, float], ...]:
    """
    Return sizes and weights, as in "64", or "64:0.9,16k:0.1"; without weights all are as frequent.

    Raises: PlanError.
    """
    sizes = []
    for part in text.split(","):
        size, colon, weight_text = part.partition(":")
        try:
            weight = float(weight_text) if colon else 1.0
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise PlanError(f"weight is {weight_text!r}, expected a number over 0, as in 64:0.9,16k:0.1")
        sizes.append((parse_size(size), weight))
    if len({size for size, _ in sizes}) < len(sizes):
        raise PlanError(f"sizes are {text!r}, where one is given twice")
    return tuple(sizes)


def parse_rate(text: str) -> float:
    """
    Return a number, as in "500", "50k" or "1.5M"; k and M are a thousand and a million.

    Raises: PlanError.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text.strip())
    rate = float(match[1]) * {"": 1, "k": 1e3, "M": 1e6}[match[2]] if match is not None else 0.0
    if not 0 < rate < math.inf:
        raise PlanError(f"rate is {text!r}, expected a number over 0, as in 500, 50k or 1M")
    return rate


def parse_cores(text: str) -> tuple[int, ...]:
    """
    Return processor numbers, as in "1", "0,2" or "0-3".

    Raises: PlanError.
    """
    cores: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise PlanError(f"cores are {text!r}, expected a list as 0,2 or 0-3")
        cores += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(cores)


def check_cores(cores: Sequence[int], allowed: set[int]) -> None:
    """Raises: PlanError for a core that this process must not run on."""
    if missing := sorted(set(cores) - allowed):
        raise PlanError(f"core {missing[0]} is not among those of this process: {sorted(allowed)}")


def parse_header(text: str) -> tuple[str, str]:
    """
    Return a header field, from "Name: value".

    Raises: PlanError.
    """
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name):
        raise PlanError(f"header is {text!r}, expected 'Name: value'")
    if re.search("[\x00-\x08\x0a-\x1f\x7f]", value):
        raise PlanError(f"header is {text!r}, whose value has a control character")
    return name, value.strip()
