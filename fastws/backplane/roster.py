"""Which servers share a backplane, and which of their connections have subscribed to a topic.

In: what other servers tell, JSON in control packets. Out: the same to them, and answers to `Roster.presence`.

Each server says every few seconds, and when it connects, that it is there. One that was silent for three of
these intervals counts as gone. Answers go to who asked alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Protocol

from fastws._packets import CONTROL_TOPIC, Packet, pack

if TYPE_CHECKING:
    from fastws._topics import Topics
    from fastws.backplane.engine import Backplane, BackplaneStats

INTERVAL = 5.0  # seconds
# Connections that one server names in an answer; more are counted.
MAX_NAMED = 1000
MAX_CONTROL = 256 * 1024  # bytes


@dataclasses.dataclass
class Presence:
    """
    Who has subscribed to a topic, on all servers.

    Attributes:
        counts: connections, by the epoch of their server.
        connections: the ids of at most 1000 of them a server, by its epoch.
        complete: whether every server that is known answered in time.
    """

    counts: dict[str, int]
    connections: dict[str, list[str]]
    complete: bool

    @property
    def total(self) -> int:
        """Connections on all servers."""
        return sum(self.counts.values())


class Host(Protocol):
    epoch: str
    stats: BackplaneStats
    engine: Backplane
    loop: asyncio.AbstractEventLoop

    def gap(self, name: str | None) -> None: ...


class Roster:
    def __init__(self, host: Host, topics: Topics) -> None:
        self._host = host
        self._topics = topics
        self._seen: dict[str, float] = {}
        self._asked: dict[str, tuple[set[str], Presence, asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._told = 0

    def start(self) -> None:
        self._beat()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, _, done in self._asked.values():
            if not done.done():
                done.set_result(None)
        self._say({"op": "bye"})

    @property
    def others(self) -> set[str]:
        """The epochs of the other servers that were heard of lately."""
        self._expire()
        return set(self._seen)

    def _expire(self) -> None:
        oldest = time.monotonic() - 3 * INTERVAL
        silent = [epoch for epoch, when in self._seen.items() if when < oldest]
        for epoch in silent:
            self.gone(epoch)
        if silent:
            # It did not say that it ends: what it published last may not have come.
            self._host.gap(None)

    def announce(self, to: str | None) -> None:
        """Say to one server that this one is there, or to all, and have them say so."""
        self._say({"op": "hello" if to is None else "here"}, to)

    def gone(self, epoch: str) -> None:
        """Note that a server is there no more."""
        self._seen.pop(epoch, None)
        for waiting, _, done in self._asked.values():
            if epoch in waiting:
                waiting.discard(epoch)
                if not waiting and not done.done():
                    done.set_result(None)

    def _beat(self) -> None:
        self._expire()
        self._say({"op": "here"})
        self._timer = self._host.loop.call_later(INTERVAL, self._beat)

    def _say(self, what: dict[str, Any], to: str | None = None) -> None:
        if not self._host.engine.up:
            return
        self._number += 1
        lost = self._host.stats.dropped + self._host.stats.in_doubt
        if lost > self._told and to is None and not self._host.engine.tells_loss:
            # The last messages of a topic leave no gap in its numbers.
            what["lost"] = lost - self._told
            self._told = lost
        body = json.dumps(what, separators=(",", ":")).encode()
        topic = CONTROL_TOPIC if to is None else f"{CONTROL_TOPIC}.{to}"
        packet = pack(topic, self._host.epoch, self._number, time.time(), None, body, None, True)
        self._host.engine.publish(topic, packet, None, None, None)

    def hear(self, packet: Packet) -> None:
        """Take what another server tells. Raises: ValueError for what is not understood."""
        if len(packet.frame) > MAX_CONTROL:
            raise ValueError(f"a control packet has {len(packet.frame)} bytes, limit is {MAX_CONTROL}")
        try:
            what = json.loads(packet.frame)
        except RecursionError:
            raise ValueError("a control packet is nested too deeply") from None
        if not isinstance(what, dict):
            raise ValueError("a control packet is no JSON object")
        if what.get("lost"):
            self._host.gap(None)
        operation = what.get("op")
        if operation == "bye":
            self.gone(packet.epoch)
            return
        self._seen[packet.epoch] = time.monotonic()
        if operation == "hello":
            self._say({"op": "here"}, packet.epoch)
        elif operation == "who" and isinstance(what.get("topic"), str) and isinstance(what.get("id"), str):
            count, named = self._present(what["topic"])
            self._say({"op": "present", "id": what["id"], "count": count, "connections": named}, packet.epoch)
        elif operation == "present":
            self._note(packet.epoch, what)

    def _present(self, topic: str) -> tuple[int, list[str]]:
        found = self._topics.find(topic)
        if found is None:
            return 0, []
        members = found.subscribers
        return len(members), [str(one.id) for one in members[:MAX_NAMED]]

    def _note(self, epoch: str, what: dict[str, Any]) -> None:
        waiting, presence, done = self._asked.get(str(what.get("id")), (set(), None, None))
        count, named = what.get("count"), what.get("connections")
        if presence is None or done is None or not isinstance(count, int) or not isinstance(named, list):
            return  # too late, or another's question
        presence.counts[epoch] = count
        presence.connections[epoch] = [str(one) for one in named]
        waiting.discard(epoch)
        if not waiting and not done.done():
            done.set_result(None)

    async def presence(self, topic: str, timeout: float) -> Presence:
        """Ask all servers that are known who has subscribed to `topic`; wait at most `timeout` seconds."""
        count, named = self._present(topic)
        presence = Presence({self._host.epoch: count}, {self._host.epoch: named}, True)
        waiting = self.others
        if not waiting:
            return presence
        identity = secrets.token_hex(8)
        done = self._host.loop.create_future()
        self._asked[identity] = waiting, presence, done
        try:
            self._say({"op": "who", "id": identity, "topic": topic})
            await asyncio.wait([done], timeout=timeout)
        finally:
            del self._asked[identity]
        presence.complete = not waiting
        return presence
