"""A protocol for clients of topics: commands and answers in JSON, so that a browser needs no server code.

In: text messages, an object each: `{"op": "subscribe", "topic": "prices.btc"}`. Out: an answer to each,
and what is published. docs/ticker.md is the whole of it.
"""

from __future__ import annotations

import inspect
import json
import weakref
from typing import TYPE_CHECKING, Any

from fastws._relaying import audience
from fastws.exceptions import ConnectionClosed
from fastws.handler import Handler

if TYPE_CHECKING:
    from fastws._connection import Connection
    from fastws._results import PublishResult
    from fastws.server import Server


MAX_COMMAND = 4096  # characters
MAX_POSITIONS = 64  # publishers in `since`
MAX_SEQUENCE = 2**64 - 1

# The connections that speak this protocol, by server.
speaking: weakref.WeakKeyDictionary[Server, weakref.WeakSet[Connection]] = weakref.WeakKeyDictionary()


class Refused(Exception):
    """A command that is not carried out; the text is for the client."""


class TickerHandler(Handler):
    """
    Lets clients subscribe to topics with commands in JSON. Subclass it to decide who may.

    Attributes, for subclasses to set:
        max_topics: subscriptions of one connection, default 100.
        max_name: characters of a topic's name, default 128.
        patterns: whether clients may subscribe to patterns, default True.
    """

    max_topics = 100
    max_name = 128
    patterns = True

    def authorise(self, ws: Connection, topic: str) -> Any:
        """
        Tell whether a client may subscribe to `topic`, a name or a pattern. May be `async def`.

        Returns: True, or what is false to refuse.
        """
        return True

    def on_message(self, ws: Connection, message: Any) -> Any:
        command: Any = None
        try:
            command = parse(message)
            operation = command.get("op")
            if operation == "subscribe":
                topic = self._name(command)
                since = positions(command)
                if topic not in ws.topics and len(ws.topics) >= self.max_topics:
                    raise Refused(f"at most {self.max_topics} topics for a connection")
                allowed = self.authorise(ws, topic)
                if inspect.isawaitable(allowed):
                    return self._subscribe_later(ws, command, topic, since, allowed)
                self._subscribe(ws, command, topic, since, allowed)
            elif operation == "unsubscribe":
                topic = self._name(command)
                was = ws.unsubscribe(topic)
                answer(ws, command, {"op": "unsubscribed", "topic": topic, "was_subscribed": was})
            elif operation == "ping":
                answer(ws, command, {"op": "pong"})
            else:
                raise Refused(f"op is {operation!r:.50}, expected subscribe, unsubscribe or ping")
        except Refused as error:
            answer(ws, command, {"op": "error", "error": str(error)})
        return None

    def _name(self, command: dict[str, Any]) -> str:
        topic = command.get("topic")
        if not isinstance(topic, str) or not topic or not topic.isprintable():
            raise Refused(f"topic is {topic!r:.50}, expected a name of printable characters")
        if len(topic) > self.max_name:
            raise Refused(f"topic has {len(topic)} characters, limit is {self.max_name}")
        if "*" in topic and not self.patterns:
            raise Refused("patterns are not allowed")
        return topic

    def _subscribe(
        self,
        ws: Connection,
        command: dict[str, Any],
        topic: str,
        since: int | dict[str, int] | None,
        allowed: Any,
    ) -> None:
        if not allowed:
            raise Refused(f"not allowed: {topic}")
        server = ws.server
        assert server is not None, "a client's connection has no topics"
        try:
            subscribed = ws.subscribe(topic, since=since)
        except ValueError as error:
            raise Refused(str(error)) from None
        message = {
            "op": "subscribed",
            "topic": topic,
            "sequence": subscribed.sequence,
            "replayed": subscribed.replayed,
            "complete": subscribed.complete,
            "epoch": server.epoch,
        }
        if server.backplane is not None:
            message["positions"] = subscribed.positions
            if server not in speaking:
                speaking[server] = weakref.WeakSet()
                server._gap_listeners.append(tell_gap)
            speaking[server].add(ws)
        answer(ws, command, message)

    async def _subscribe_later(
        self,
        ws: Connection,
        command: dict[str, Any],
        topic: str,
        since: int | dict[str, int] | None,
        pending: Any,
    ) -> None:
        try:
            self._subscribe(ws, command, topic, since, await pending)
        except Refused as error:
            answer(ws, command, {"op": "error", "error": str(error)})

    @staticmethod
    def publish(server: Server, topic: str, data: Any, *, key: str | None = None) -> PublishResult:
        """
        Publish `data` the way clients of this protocol expect it, with the topic and its number.

        Args:
            data: what json.dumps takes.
            key: see `Server.publish`.

        Returns, raises: as `Server.publish`; TypeError and ValueError of json.dumps.
        """
        message = {"topic": topic, "sequence": server._topics.sequence_of(topic) + 1, "data": data}
        if server.backplane is not None:
            message["epoch"] = server.epoch
        return server.publish(
            topic, json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False), key=key
        )


def positions(command: dict[str, Any]) -> int | dict[str, int] | None:
    """Return where a client says it was: a number of this server's, or numbers by epoch."""
    since, epoch = command.get("since"), command.get("epoch")
    if since is None:
        return None
    if isinstance(since, dict):
        if len(since) > MAX_POSITIONS:
            raise Refused(f"since has {len(since)} positions, limit is {MAX_POSITIONS}")
        wrong = next((one for one in since.values() if not is_sequence(one)), None)
        if wrong is not None:
            raise Refused(f"since has {wrong!r:.50}, expected sequence numbers")
        return since
    if not is_sequence(since):
        raise Refused(f"since is {since!r:.50}, expected a sequence number")
    return {epoch: since} if isinstance(epoch, str) else since


def is_sequence(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SEQUENCE


def tell_gap(server: Server, topics: frozenset[str] | None) -> None:
    """Tell clients that messages of what they subscribed to may be missing."""
    clients = speaking.get(server, ())
    told: dict[Connection, list[str | None]] = {}
    if topics is None:
        told = {ws: [None] for ws in clients}
    else:
        for topic in topics:
            for ws in audience(server._topics, topic):
                if ws in clients:
                    told.setdefault(ws, []).append(topic)
    for ws, names in told.items():
        for name in names:
            try:
                ws.send(json.dumps({"op": "gap", "topic": name}, separators=(",", ":"), ensure_ascii=False))
            except ConnectionClosed:
                break


def parse(message: Any) -> dict[str, Any]:
    if not isinstance(message, str):
        raise Refused("a command is text")
    if len(message) > MAX_COMMAND:
        raise Refused(f"command has {len(message)} characters, limit is {MAX_COMMAND}")
    try:
        command = json.loads(message)
    except (ValueError, RecursionError):
        raise Refused("a command is a JSON object, this is no JSON") from None
    if not isinstance(command, dict):
        raise Refused("a command is a JSON object")
    return command


def answer(ws: Connection, command: Any, message: dict[str, Any]) -> None:
    """Send an answer, with the command's id when it has a short one."""
    if isinstance(command, dict):
        identity = command.get("id")
        if (
            isinstance(identity, (str, int, float))
            and len(str(identity)) <= 64
            and str(identity).isprintable()
        ):
            message["id"] = identity
    ws.send(json.dumps(message, separators=(",", ":"), ensure_ascii=False))
