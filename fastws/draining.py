"""
Draining: a server's connections, closed one after another over some seconds.

In: a server that accepts nothing more. Out: Close frames with 1001, RFC 6455 7.4.1, at moments drawn at
random, so that those who come back do not come at once. RFC 6455 7.2.3 wants the same of clients, and not all
do it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastws.codes import State

if TYPE_CHECKING:
    from fastws._connection import Connection
    from fastws.server import Server

# Connections a second and process that are told to go; 10,000 take 5 s.
RATE = 2000.0
# Seconds for all of it, and the share of that in which all are told: the rest is for closing handshakes.
TIMEOUT = 10.0
TELLING = 0.7

# Seconds that a connection has for the message behind whose answer it closes, when another server takes over.
PATIENCE = 2.0

PERIOD = 0.02


def span_of(count: int, rate: float | None, timeout: float | None) -> float:
    """Return over how many seconds `count` connections are told: as the rate says, and never too long."""
    wanted = 0.0 if rate is None else count / rate
    return wanted if timeout is None else min(wanted, TELLING * timeout)


async def tell_all(
    server: Server, rate: float | None, timeout: float | None, handover: bool, code: int, reason: str
) -> None:
    """
    Begin the closing handshake of every connection, spread over time; return when all have begun it.

    Args:
        rate: connections a second; None: all at once.
        timeout: seconds that all of the end may take; None: no limit.
        handover: opening handshakes that are under way are completed first, and a connection closes behind
            the answer to a message. Else the former get 503, and it closes when it has its turn.
    """
    loop = server.get_loop()
    start = loop.time()
    latest = None if timeout is None else start + TELLING * timeout
    connections = server._carrier.descriptors_of(server)
    told: set[Connection] = set()
    if not handover:
        await tell((one for one in connections if one.state is State.CONNECTING), told, code, reason)
    span = span_of(len(connections), rate, timeout)
    plan = sorted(((start + span * random.random(), i) for i in range(len(connections))), reverse=True)
    patient: dict[Connection, float] = {}  # those that wait for a message, and until when
    while plan:
        now = loop.time()
        due = []
        while plan and plan[-1][0] <= now:
            due.append(connections[plan.pop()[1]])
        ready = (one for one in due if one.state is not State.CONNECTING)
        if handover:
            patient.update((one, now + PATIENCE) for one in ready if not one.leave(code, reason))
        else:
            await tell(ready, told, code, reason)
        if plan:
            await asyncio.sleep(max(plan[-1][0] - loop.time(), PERIOD))
    connections.clear()
    # Those that have their patience still, that were in the opening handshake, or on their way to it.
    while left := [one for one in server._carrier.descriptors_of(server) if one not in told]:
        now = loop.time()
        if not handover or (latest is not None and now >= latest):
            await tell(left, told, code, reason)
            continue
        for one in left:
            end = patient.get(one)
            if (end is None and one.state is not State.CONNECTING) or (end is not None and now >= end):
                patient.setdefault(one, now + PATIENCE)
                if one.leave(code, reason, end is not None):
                    told.add(one)
        await asyncio.sleep(PERIOD)


async def tell(connections: Iterable[Connection], told: set[Connection], code: int, reason: str) -> None:
    for count, connection in enumerate(connections):
        told.add(connection)
        connection.shut_down(code, reason)
        if count % 256 == 255:
            await asyncio.sleep(0)
