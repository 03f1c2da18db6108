"""The backplane `redis://`, over Redis 6.2 or newer, or Valkey: pub/sub for what is live, a stream for a
topic's history and a hash for what it retains.

A script publishes and keeps in one step, so that what a stream has is what was published, in that order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Collection
from typing import Any

from fastws._packets import is_message, unpack
from fastws.backplane.engine import Entry, Receiver
from fastws.backplane.remote import Outgoing, Remote, prefix_of, within
from fastws.log import report
from fastws.patterns import expression_of

try:
    import redis.asyncio
    from redis.exceptions import NoScriptError, RedisError, ResponseError
except ImportError as error:
    raise ImportError("redis:// needs the library redis: pip install 'fastws[redis]'") from error

# Messages of one topic that are fetched at most, when its history has no number of its own.
MAX_FETCHED = 100_000
# Topics that are asked for at once.
FETCHES = 256

# KEYS: stream, hash of retained, their order, names. ARGV: packet, channel, history (0: none, -1: unlimited),
# oldest time in ms or -1, its length in ms, keys to retain, key, time in ms, topic. Returns 1, or why nothing
# was kept: a message for the living is not lost because Redis is full.
KEEP = """
redis.call('PUBLISH', ARGV[2], ARGV[1])
local history, oldest, retain = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
local known = redis.pcall('SADD', KEYS[4], ARGV[9])
if type(known) == 'table' and known.err then return known.err end
if history ~= 0 then
  redis.call('XADD', KEYS[1], '*', 'p', ARGV[1])
  if history > 0 then redis.call('XTRIM', KEYS[1], 'MAXLEN', history) end
  if oldest >= 0 then
    redis.call('XTRIM', KEYS[1], 'MINID', ARGV[4])
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
  end
end
-- When, by whom and its number: as text of the packet they compare like the numbers that they are.
local function age(packet) return packet:sub(23, 30) .. packet:sub(7, 14) .. packet:sub(15, 22) end
local held = retain > 0 and redis.call('HGET', KEYS[2], ARGV[7])
if retain > 0 and not (held and age(held) >= age(ARGV[1])) then
  redis.call('HSET', KEYS[2], ARGV[7], ARGV[1])
  redis.call('ZADD', KEYS[3], ARGV[8], ARGV[7])
  local over = redis.call('ZCARD', KEYS[3]) - retain
  if over > 0 then
    local gone = redis.call('ZPOPMIN', KEYS[3], over)
    for i = 1, #gone, 2 do redis.call('HDEL', KEYS[2], gone[i]) end
  end
end
return 1
"""

# KEYS: stream, hash of retained, names. ARGV: topic. Another server may keep something of it by now.
FORGET = """
if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then redis.call('SREM', KEYS[3], ARGV[1]) end
"""


def opened(url: str, timeout: float) -> tuple[str, Any]:
    """Return a URL's prefix, and a pool without a connection. Raises: ValueError for unknown options."""
    prefix, rest = prefix_of(url)
    pool: Any = redis.asyncio.ConnectionPool.from_url(
        rest, socket_timeout=None, socket_connect_timeout=timeout, protocol=2
    )
    make: Callable[[], Any] = pool.make_connection
    try:
        make()
    except TypeError as error:
        raise ValueError(f"backplane is {url!r}, which redis-py does not take: {error}") from None
    return prefix, pool


class RedisBackplane(Remote):
    """
    Joins servers over Redis.

    Args:
        url: as redis-py takes it, and `?prefix=` for names in Redis, default "fastws".
        limit: bytes that may wait for Redis, see `BackplaneStats.dropped`.
    """

    engine = "Redis"
    failures = (*Remote.failures, RedisError)

    def __init__(self, url: str, receiver: Receiver, limit: int) -> None:
        super().__init__(receiver, limit)
        self._prefix, self._pool = opened(url, self.silence)
        self._listening: Any = None
        self._publishing: Any = None
        self._script = b""
        self._lock = asyncio.Lock()
        self._pongs: dict[bytes, asyncio.Future[None]] = {}

    # ---------------------------------------------------------------- connections

    @contextlib.asynccontextmanager
    async def _connection(self) -> Any:
        # Connections of our own: those of the pool come back by themselves, and then nobody knows what was
        # missed.
        connection: Any = self._pool.make_connection()
        try:
            await within(self.silence, connection.connect())
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    async def session(self) -> None:
        async with self._connection() as self._listening, self._connection() as self._publishing:
            (self._script,) = await self._ask(self._publishing, ("SCRIPT", "LOAD", KEEP))
            reading = self.receiver.loop.create_task(self._read())
            serving = self.receiver.loop.create_task(self.serve())
            try:
                done, _ = await asyncio.wait({reading, serving}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in (reading, serving):
                    task.cancel()
                await asyncio.gather(reading, serving, return_exceptions=True)
                self._pongs.clear()

    async def _ask(self, connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
        """Return the answers to commands, of which each has so long to come."""
        await within(
            self.silence,
            connection.send_packed_command(connection.pack_commands(commands), check_health=False),
        )
        return [await within(self.silence, connection.read_response(disable_decoding=True)) for _ in commands]

    async def _read(self) -> None:
        start = len(self._prefix) + 1
        while True:
            said = await self._listening.read_response(disable_decoding=True)
            kind = said[0]
            if kind in (b"message", b"pmessage"):
                try:
                    topic = said[-2].decode()[start:]
                except UnicodeDecodeError:
                    self.receiver.stats.malformed += 1
                    continue
                self.came(topic, said[-1])
            elif kind == b"pong":
                pong = self._pongs.pop(said[1], None)
                if pong is not None and not pong.done():
                    pong.set_result(None)

    async def _say(self, *command: Any) -> None:
        async with self._lock:
            await self._listening.send_packed_command(
                self._listening.pack_command(*command), check_health=False
            )

    async def barrier(self) -> None:
        # Redis answers in the order of what it did: what was published before came before this answer.
        token = secrets.token_hex(8).encode()
        pong = self._pongs[token] = self.receiver.loop.create_future()
        await self._say("PING", token)
        await pong

    # ---------------------------------------------------------------- names

    def _channel(self, topic: str) -> str:
        return f"{self._prefix}:{topic}"

    def _pattern(self, pattern: str) -> str:
        # Redis' * is any text at all: more than ours, and what is too much finds no subscriber.
        return escape(self._prefix) + ":" + "*".join(escape(part) for part in pattern.split("*"))

    async def _names(self, command: str, names: Collection[str]) -> None:
        plain = [self._channel(name) for name in names if "*" not in name]
        patterns = [self._pattern(name) for name in names if "*" in name]
        if plain:
            await self._say(command, *plain)
        if patterns:
            await self._say("P" + command, *patterns)

    async def subscribe(self, names: list[str]) -> None:
        await self._names("SUBSCRIBE", names)

    async def unsubscribe(self, names: set[str]) -> None:
        await self._names("UNSUBSCRIBE", names)

    # ---------------------------------------------------------------- publishing and keeping

    async def prepare(self, rule: str, limits: tuple[int, int | None, float | None]) -> None:
        pass

    def _keys(self, topic: str) -> tuple[str, ...]:
        return tuple(f"{self._prefix}:{kind}:{topic}" for kind in ("history", "retained", "order"))

    def _command(self, item: Outgoing) -> tuple[Any, ...]:
        if item.limits is None:
            return ("PUBLISH", self._channel(item.topic), item.packet)
        retain, history, seconds = item.limits
        now = int(time.time() * 1000)
        length = 0 if seconds is None else int(seconds * 1000)
        return (
            "EVALSHA",
            self._script,
            4,
            *self._keys(item.topic),
            f"{self._prefix}:names",
            item.packet,
            self._channel(item.topic),
            history if history is not None else 0 if seconds is None else -1,
            -1 if seconds is None else max(now - length, 0),
            max(length, 1),
            retain,
            "-" if item.key is None else "+" + item.key,
            now,
            item.topic,
        )

    async def send(self, batch: list[Outgoing]) -> int:
        connection = self._publishing
        await connection.send_packed_command(
            connection.pack_commands([self._command(item) for item in batch]), check_health=False
        )
        refused = 0
        for item in batch:
            try:
                answer = await connection.read_response(disable_decoding=True)
            except NoScriptError:
                raise  # it is loaded with the next connection
            except ResponseError as error:
                refused += is_message(item.packet)
                report(self.receiver.logger, logging.WARNING, "backplane: Redis refuses a message: %s", error)
            else:
                if item.limits is not None and answer != 1:
                    report(
                        self.receiver.logger,
                        logging.WARNING,
                        "backplane: Redis does not keep a message: %s",
                        answer,
                    )
        return refused

    async def fetch(self, rule: str) -> dict[str, tuple[list[Entry], list[Entry]]]:
        found: dict[str, tuple[list[Entry], list[Entry]]] = {}
        async with self._connection() as connection:
            names = [rule]
            if "*" in rule:
                expression = expression_of(rule)
                (known,) = await self._ask(connection, ("SMEMBERS", f"{self._prefix}:names"))
                names = [name for name in (one.decode() for one in known) if expression.fullmatch(name)]
            for first in range(0, len(names), FETCHES):
                await self._fetch(connection, names[first : first + FETCHES], found, "*" in rule)
        return found

    async def _fetch(
        self,
        connection: Any,
        names: list[str],
        found: dict[str, tuple[list[Entry], list[Entry]]],
        forget: bool,
    ) -> None:
        answers = await self._ask(
            connection,
            *(("XREVRANGE", self._keys(name)[0], "+", "-", "COUNT", MAX_FETCHED) for name in names),
            *(("HVALS", self._keys(name)[1]) for name in names),
        )
        empty = []
        for name, past, last in zip(names, answers, answers[len(names) :], strict=False):
            if past or last:
                found[name] = (
                    entries_of([fields[1] for _, fields in reversed(past)]),
                    sorted(entries_of(last), key=lambda entry: entry[2]),
                )
            elif forget:
                empty.append(("EVAL", FORGET, 3, *self._keys(name)[:2], f"{self._prefix}:names", name))
        if empty:
            await self._ask(connection, *empty)


def entries_of(packets: list[bytes]) -> list[Entry]:
    """Return what packets say; what is none is left out."""
    entries = []
    for data in packets:
        with contextlib.suppress(ValueError):
            packet = unpack(data)
            entries.append((packet.epoch, packet.sequence, packet.wall, packet.key, packet.frame))
    return entries


def escape(text: str) -> str:
    for special in "\\?[]":
        text = text.replace(special, "\\" + special)
    return text
