"""The backplane `nats://`: plain subjects for what is live, and a JetStream stream for each declaration
that keeps messages.

A message goes to `<prefix>.<declaration>.<key>.<topic>`. Subscribers name any declaration and key, a stream
one declaration, so a message is published once for both. Where no history is kept but values are retained,
the key is part of the subject and the stream keeps the last message of each; otherwise it keeps the last
messages of the topic.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import string
from typing import Any
from urllib.parse import urlsplit

from fastws._packets import unpack
from fastws.backplane.engine import Entry, Receiver
from fastws.backplane.remote import Outgoing, Remote, prefix_of, within
from fastws.log import report

try:
    import nats
    import nats.errors
    import nats.js.api
    import nats.js.errors
except ImportError as error:
    raise ImportError("nats:// needs the library nats-py: pip install 'fastws[nats]'") from error

PLAIN = set(string.ascii_letters + string.digits + "_-")
UNKEPT = "0"
# Bytes of a subject, less what goes before the topic in it. NATS ends a connection that sends a longer line.
MAX_SUBJECT = 3900


class Subscription:
    """What was subscribed to, and how many messages of it were taken."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taken = 0
        self.upstream: Any = None

    @property
    def waiting(self) -> int:
        return 0 if self.upstream is None else int(self.upstream.pending_msgs)


class NatsBackplane(Remote):
    """
    Joins servers over NATS.

    Args:
        url: as nats-py takes it, and `?prefix=` for subjects, default "fastws".
        limit: bytes that may wait for NATS, see `BackplaneStats.dropped`.
    """

    engine = "NATS"
    failures = (*Remote.failures, nats.errors.Error)

    def __init__(self, url: str, receiver: Receiver, limit: int) -> None:
        super().__init__(receiver, limit)
        self._prefix, self._url = prefix_of(url)
        self._client: Any = None
        self._subscriptions: dict[str, Subscription] = {}
        self._kept: set[str] = set()

    async def session(self) -> None:
        lost: asyncio.Future[None] = self.receiver.loop.create_future()

        async def on_lost() -> None:
            if not lost.done():
                lost.set_exception(ConnectionError("the connection was lost"))

        why: Exception = ConnectionError("no connection")

        async def on_error(error: Exception) -> None:
            nonlocal why
            why = error
            if isinstance(error, nats.errors.SlowConsumerError):
                self.receiver.gap(None)

        self._subscriptions = {}
        self._kept = set()
        connecting = nats.connect(
            self._url,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=max(int(self.silence), 1),
            no_echo=True,
            disconnected_cb=on_lost,
            closed_cb=on_lost,
            error_cb=on_error,
        )
        try:
            self._client = await within(self.silence, connecting)
        except nats.errors.NoServersError:
            # That does not tell why, and what does, not where.
            raise ConnectionError(f"{urlsplit(self._url).netloc.rpartition('@')[2]}: {why}") from None
        serving = self.receiver.loop.create_task(self.serve())
        try:
            await asyncio.wait({serving, lost}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            else:
                lost.result()
        finally:
            serving.cancel()
            lost.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            if lost.done() and not lost.cancelled():
                lost.exception()
            with contextlib.suppress(Exception):
                await within(1.0, self._client.close())
            # A connection that fails while it is closed leaves the tasks of its subscriptions behind.
            tasks = [
                one._wait_for_msgs_task for one in self._client._subs.values() if one._wait_for_msgs_task
            ]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answered(self) -> None:
        """Wait until NATS has taken all commands."""
        # The PING of `flush` goes past commands that are not written yet.
        delay = 0.0
        while self._client.pending_data_size and self._client.is_connected:
            await asyncio.sleep(delay)
            delay = 0.001
        await self._client.flush(timeout=self.silence)

    async def barrier(self) -> None:
        await self._answered()
        # The answer overtakes what waits for the subscriptions' tasks; what comes after it does not count.
        goals = [(one, one.taken + one.waiting) for one in self._subscriptions.values()]
        while any(one.taken < goal and self._subscriptions.get(one.name) is one for one, goal in goals):
            await asyncio.sleep(0)

    # ---------------------------------------------------------------- names

    async def _came(self, one: Subscription, message: Any) -> None:
        one.taken += 1
        if self._subscriptions.get(one.name) is one:
            tokens = message.subject[len(self._prefix) + 1 :].split(".")[2:]
            self.came(".".join(decoded(token) for token in tokens), message.data, one.name)

    async def subscribe(self, names: list[str]) -> None:
        for name in names:
            one = self._subscriptions[name] = Subscription(name)
            one.upstream = await self._client.subscribe(
                f"{self._prefix}.*.*.{subject_of(name)}", cb=functools.partial(self._came, one)
            )

    async def unsubscribe(self, names: set[str]) -> None:
        for name in names:
            await self._subscriptions.pop(name).upstream.unsubscribe()

    # ---------------------------------------------------------------- publishing and keeping

    async def prepare(self, rule: str, limits: tuple[int, int | None, float | None]) -> None:
        _, history, seconds = limits
        if history is None and seconds is not None:
            history = -1
        config = nats.js.api.StreamConfig(
            name=f"{self._prefix}-{digest(rule)}",
            description=rule,
            subjects=[f"{self._prefix}.{digest(rule)}.>"],
            max_msgs_per_subject=1 if history is None else history,
            max_age=seconds or 0,
            no_ack=True,
        )
        streams = self._client.jetstream(timeout=self.silence)
        try:
            try:
                await streams.add_stream(config)
            except nats.js.errors.BadRequestError:
                await streams.update_stream(config)  # it was declared otherwise before
        except (nats.js.errors.Error, nats.errors.NoRespondersError) as error:
            off = isinstance(error, (nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError))
            self.receiver.logger.warning(
                "backplane: NATS keeps nothing of %s: %s", rule, "it has no JetStream" if off else error
            )
            return
        self._kept.add(rule)

    def _subject(self, item: Outgoing, tokens: str) -> str:
        rule = key = UNKEPT
        if item.rule is not None and item.limits is not None:
            rule = digest(item.rule)
            if item.limits[1] is None and item.limits[2] is None:
                key = digest("-" if item.key is None else "+" + item.key)
        return f"{self._prefix}.{rule}.{key}.{tokens}"

    def _has_room(self, tokens: str) -> bool:
        return len(self._prefix) + len(tokens) <= MAX_SUBJECT

    def can_say(self, name: str) -> bool:
        return super().can_say(name) and self._has_room(subject_of(name))

    async def send(self, batch: list[Outgoing]) -> int:
        refused = 0
        for item in batch:
            tokens = subject_of(item.topic)
            if not self._has_room(tokens):
                refused += 1
                report(
                    self.receiver.logger, logging.WARNING, "backplane: %.50r is too long for NATS", item.topic
                )
                continue
            try:
                await self._client.publish(self._subject(item, tokens), item.packet)
            except nats.errors.MaxPayloadError:
                refused += 1
                report(
                    self.receiver.logger,
                    logging.WARNING,
                    "backplane: a message of %d bytes is more than NATS takes",
                    len(item.packet),
                )
        await self._answered()
        return refused

    async def fetch(self, rule: str) -> dict[str, tuple[list[Entry], list[Entry]]]:
        found: dict[str, tuple[list[Entry], list[Entry]]] = {}
        if rule not in self._kept:
            return found
        streams = self._client.jetstream(timeout=self.silence)
        stream = f"{self._prefix}-{digest(rule)}"
        if not (await streams.stream_info(stream)).state.messages:
            return found
        retain = self.receiver.rules().get(rule, (0,))[0]
        messages = await streams.subscribe(
            f"{self._prefix}.{digest(rule)}.>", stream=stream, ordered_consumer=True
        )
        try:
            pending = 1
            while pending:
                message = await messages.next_msg(timeout=self.silence)
                pending = message.metadata.num_pending
                with contextlib.suppress(ValueError):
                    packet = unpack(message.data)
                    entry = (packet.epoch, packet.sequence, packet.wall, packet.key, packet.frame)
                    history, retained = found.setdefault(packet.topic, ([], []))
                    history.append(entry)
                    if retain:
                        retained.append(entry)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await messages.unsubscribe()
        return found


def digest(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def subject_of(name: str) -> str:
    """Return a topic or pattern as tokens of a subject: of a pattern the same, or more than it stands for."""
    parts = name.split(".")
    tokens = []
    for place, part in enumerate(parts):
        if "*" not in part:
            tokens.append(encoded(part))
        elif part == "*" and place == len(parts) - 1 and place:
            tokens.append(">")
        else:
            tokens.append("*")
    return ".".join(tokens)


def encoded(part: str) -> str:
    # An empty token is not allowed; "%" alone stands for it.
    return "".join(one if one in PLAIN else f"%{ord(one):x}%" for one in part) or "%"


def decoded(token: str) -> str:
    pieces = token.split("%")
    if token == "%":
        return ""
    return "".join(chr(int(piece, 16)) if place % 2 else piece for place, piece in enumerate(pieces))
