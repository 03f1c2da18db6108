"""The handlers of fuzz_server.py: they echo for the good client and do anything for the others."""

import asyncio
import contextlib

import fastws

GOOD = "/good"  # the good client's path


class Ours(Exception):
    """What handlers raise; any other error is the server's."""


def others(ws):
    """Return connections of the same server, not the good client's, in an order of their own."""
    found = [one for one in ws.server.connections if one.request.path != GOOD]
    return sorted(found, key=lambda one: one.request.path)


# ---- what callbacks do


def echo(ws, rng, message):
    return ws.send(message)


def send_much(ws, rng, message):
    for _ in range(rng.randrange(1, 40)):
        ws.send(bytes(rng.choice([0, 1, 125, 126, 4000, 70_000])))


def send_a_buffer_that_changes(ws, rng, message):
    buffer = bytearray(b"x" * rng.choice([10, 5000]))
    ws.send(buffer)
    buffer.clear()


def flush(ws, rng, message):
    ws.send("flushed")
    ws.flush()


def ping(ws, rng, message):
    return ws.ping()


def pong(ws, rng, message):
    return ws.pong(b"unasked")


def close(ws, rng, message):
    return ws.close(rng.choice([1000, 1001, 3000, 4999]), rng.choice(["", "enough", "é" * 60]))


def close_without_code(ws, rng, message):
    return ws.close(None)


def close_wrongly(ws, rng, message):
    if ws.state is fastws.State.OPEN:
        with contextlib.suppress(ValueError):
            ws.close(1005)
            raise AssertionError("close(1005) was accepted")


def pause(ws, rng, message):
    ws.pause_reading()
    loop = asyncio.get_running_loop()
    if rng.random() < 0.5:
        loop.call_soon(ws.resume_reading)
    else:
        loop.call_later(0.02 * rng.random(), ws.resume_reading)


def fail(ws, rng, message):
    raise Ours("a handler fails")


def abort(ws, rng, message):
    ws.abort()


def abort_another(ws, rng, message):
    """Maybe one with input or output of its own in this very turn."""
    if found := others(ws):
        rng.choice(found).abort()


def send_to_another(ws, rng, message):
    """It may be closed: then ConnectionClosed stops this callback, and costs nothing else."""
    if found := others(ws):
        rng.choice(found).send(message)


def tell_all(ws, rng, message):
    fastws.broadcast(others(ws), message)


def look(ws, rng, message):
    assert ws.state.name in ("OPEN", "CLOSING", "CLOSED")
    assert ws.buffered_amount >= 0
    assert str(ws.state.name) in repr(ws)


ACTIONS = [echo] * 6 + [send_much, send_a_buffer_that_changes, flush, ping, pong, pause, pause, fail, abort]
ACTIONS += [close, close_without_code, close_wrongly, abort_another, send_to_another, tell_all, look]


def act(ws, rng, tally, message):
    """Do one thing of many. Returns: an awaitable or None."""
    action = rng.choice(ACTIONS)
    tally.done[action.__name__] += 1
    return action(ws, rng, message)


async def act_slowly(ws, rng, tally, message):
    """Do it later, and wait for it to be done, or not long enough."""
    await asyncio.sleep(rng.choice([0, 0, 0.005]))
    result = act(ws, rng, tally, message)
    if result is not None and rng.random() < 0.7:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(result, 0.05 * rng.random())


# ---- handlers


class Wild(fastws.Handler):
    tally = None
    over = False

    def on_open(self, ws):
        self.good = ws.request.path == GOOD
        self.rng = self.tally.rng_of(ws.request.path)
        self.lazy = self.rng.random() < 0.3
        self.tally.done["opened"] += 1
        self.tally.alive.add(ws)
        return self.react(ws, b"hello", 0.1)

    def react(self, ws, message, odds):
        if self.over:
            self.tally.wrong.append("a callback came after on_close")
        if self.good or self.rng.random() >= odds:
            return None
        if self.lazy or self.rng.random() < 0.1:
            return act_slowly(ws, self.rng, self.tally, message)
        return act(ws, self.rng, self.tally, message)

    def on_message(self, ws, message):
        return ws.send(message) if self.good else self.react(ws, message, 0.8)

    def on_ping(self, ws, data):
        return self.react(ws, data, 0.3)

    def on_pong(self, ws, data):
        return self.react(ws, data, 0.3)

    def on_drain(self, ws):
        return self.react(ws, b"drained", 0.3)

    def on_close(self, ws, code, reason):
        self.tally.done["closed"] += 1
        assert not self.over
        assert isinstance(code, int)
        assert isinstance(reason, str)
        self.over = True
        if self.rng.random() < 0.1:
            raise Ours("on_close fails")

    def on_error(self, ws, error):
        self.tally.judge(error)
        if self.rng.random() < 0.1:
            raise Ours("on_error fails")


async def take(ws, rng, tally):
    """Take a message, or a part of one, or give up the wait."""
    kind = rng.randrange(6)
    tally.done[f"take {kind}"] += 1
    if kind == 0:
        return await asyncio.wait_for(ws.recv(), 0.01 * rng.random())
    if kind == 1:
        fragments = ws.recv_streaming()
        async for _ in fragments:
            if rng.random() < 0.3:
                await fragments.aclose()
                break
        return b"a stream"
    if kind == 2:
        async for message in ws:
            return message
        return b"the end"
    if kind == 3:
        waiting = asyncio.ensure_future(ws.recv())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        return b"cancelled" if waiting.cancelled() else waiting.result()
    return await ws.recv(rng.choice([None, False]))


def coroutine_handler(tally):
    async def handler(ws):
        tally.alive.add(ws)
        if ws.request.path == GOOD:
            async for message in ws:
                await ws.send(message)
            return
        rng = tally.rng_of(ws.request.path)
        for _ in range(rng.randrange(60)):
            message = b"instead"
            with contextlib.suppress(asyncio.TimeoutError):
                message = await take(ws, rng, tally)
            if rng.random() < 0.2:
                await asyncio.wait_for(ws.send([message, message]), 1)
            elif rng.random() < 0.7:
                await act_slowly(ws, rng, tally, message)

    return handler


def handlers(tally):
    """Return a handler with callbacks and one that is a coroutine function."""
    return type("Wild", (Wild,), {"tally": tally}), coroutine_handler(tally)
