"""What a callback raises: who hears of it, what it costs, and what stands in the log."""

import asyncio
import logging

import pytest
import uvloop
from peers import LIMIT, Echo, raw
from wire import CLOSE, TEXT, frame, opened, read_frame, serve

import fastws

INTERNAL_ERROR = (CLOSE, b"\x03\xf3internal error")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request):
    """A loop whose exception handler hears nothing."""
    unheard = []
    loop = request.param()
    loop.set_exception_handler(lambda _loop, context: unheard.append(context))
    yield loop
    loop.close()
    assert unheard == []


class Exits(Echo):
    """Raises what `raises` is when told to; else echoes."""

    raises = None

    def __init__(self):
        self.seen = []

    def on_message(self, ws, message):
        if message == "raise":
            raise self.raises
        ws.send(message)


class AsyncExits(Exits):
    async def on_message(self, ws, message):
        await asyncio.sleep(0)
        if message == "raise":
            raise self.raises
        ws.send(message)


@pytest.mark.parametrize("base", [Exits, AsyncExits])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_r16_an_exit_in_a_callback_comes_out_of_the_loop_once_and_costs_1011(loop, base, error):
    codes = []

    class Handler(base):
        raises = error

        def on_close(self, ws, code, reason):
            codes.append(code)

    async def main():
        async with (
            serve(Handler) as server,
            opened(server) as (good_reader, good),
            opened(server) as (reader, bad),
        ):
            good.write(frame(TEXT, b"before"))
            assert await read_frame(good_reader) == (TEXT, b"before")
            # Both are likely to be read in one turn: the exit must not lose the other's message.
            bad.write(frame(TEXT, b"raise") + frame(TEXT, b"late"))
            good.write(frame(TEXT, b"meanwhile"))
            assert await read_frame(reader) == INTERNAL_ERROR
            assert await reader.read() == b""
            assert await read_frame(good_reader) == (TEXT, b"meanwhile")
            good.write(frame(TEXT, b"after"))
            assert await read_frame(good_reader) == (TEXT, b"after")
            assert codes == [1006]

    task = loop.create_task(asyncio.wait_for(main(), LIMIT))
    with pytest.raises(type(error)) as caught:
        loop.run_until_complete(task)
    assert caught.value is error
    # It comes once: now the loop runs to the end.
    loop.run_until_complete(task)


@pytest.mark.parametrize("event", ["on_open", "on_ping", "on_pong", "on_close", "on_drain"])
def test_r16_an_exit_in_any_callback_comes_out_of_the_loop(loop, event):
    error = SystemExit(4)

    def raises(*_):
        raise error

    async def main():
        async with (
            serve(**{event: raises}, ping_interval=None, write_limit=0) as server,
            raw(server) as (reader, writer),
        ):
            await reader.readuntil(b"\r\n\r\n")
            if event == "on_drain":
                for connection in server.connections:
                    # More than kernels take at once, so that it waits, and then drains.
                    connection.send(b"x" * 8_000_000)
            writer.write(
                frame(0x89, b"1") + frame(0x8A, b"1") + frame(0x88 if event == "on_close" else TEXT, b"")
            )
            await reader.read()

    task = loop.create_task(asyncio.wait_for(main(), LIMIT))
    with pytest.raises(SystemExit) as caught:
        loop.run_until_complete(task)
    assert caught.value is error
    loop.run_until_complete(task)


@pytest.mark.parametrize("base", [Exits, AsyncExits])
def test_r31_no_memory_in_a_callback_costs_1011_and_nothing_else(run, caplog, base):
    class Handler(base):
        raises = MemoryError()

    async def main():
        async with (
            serve(Handler) as server,
            opened(server) as (good_reader, good),
            opened(server) as (reader, bad),
        ):
            bad.write(frame(TEXT, b"raise") + frame(TEXT, b"late"))
            assert await read_frame(reader) == INTERNAL_ERROR
            assert await reader.read() == b""
            good.write(frame(TEXT, b"after"))
            assert await read_frame(good_reader) == (TEXT, b"after")

    run(main)
    assert [r.exc_info[0] for r in caplog.records if r.levelname == "ERROR"] == [MemoryError]


def raise_value(*_):
    raise ValueError("mine")


async def raise_value_later(*_):
    await asyncio.sleep(0)
    raise ValueError("mine")


@pytest.mark.parametrize("on_message", [raise_value, raise_value_later])
def test_on_error_is_told_instead_of_the_log(run, caplog, on_message):
    told = []

    async def main():
        async with (
            serve(
                on_message=on_message,
                on_error=lambda ws, error: told.append((ws.state, error)),
            ) as server,
            opened(server) as (reader, writer),
        ):
            writer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
            assert await read_frame(reader) == INTERNAL_ERROR

    run(main)
    ((state, error),) = told
    assert state is fastws.State.OPEN
    assert (type(error), str(error)) == (ValueError, "mine")
    assert caplog.records == []


@pytest.mark.parametrize("on_message", [raise_value, raise_value_later])
@pytest.mark.parametrize("on_error", [raise_value, raise_value_later])
def test_on_error_that_raises_is_logged_and_not_told_of_itself(run, caplog, on_message, on_error):
    calls = []

    def counted(ws, error):
        calls.append(error)
        assert len(calls) == 1
        return on_error(ws, error)

    async def main():
        async with (
            serve(on_message=on_message, on_error=counted) as server,
            opened(server) as (reader, writer),
        ):
            writer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
            assert await read_frame(reader) == INTERNAL_ERROR
            assert await reader.read() == b""

    run(main)
    assert len(calls) == 1
    assert [r.exc_info[0] for r in caplog.records if r.levelname == "ERROR"] == [ValueError]


def test_on_error_may_close_with_a_code_of_its_own(run):
    async def main():
        async with (
            serve(
                on_message=raise_value,
                on_error=lambda ws, error: ws.close(4003, str(error)) and None,
            ) as server,
            opened(server) as (reader, writer),
        ):
            writer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
            assert await read_frame(reader) == (CLOSE, b"\x0f\xa3mine")
            writer.write(frame(CLOSE, b"\x0f\xa3"))
            assert await reader.read() == b""

    run(main)


# ---------------------------------------------------------------- the log


@pytest.mark.without_tls("with its handshakes it takes longer than a flood does")
def test_r34_a_flood_of_failing_callbacks_is_logged_a_few_times_a_second(run, caplog):
    failures = 200

    async def main():
        async with serve(on_message=raise_value) as server:
            for _ in range(failures):
                async with opened(server) as (reader, writer):
                    writer.write(frame(TEXT, b"secret payload"))
                    assert await read_frame(reader) == INTERNAL_ERROR

    run(main)
    # 20 a second, and a flood that lasts two or three seconds here is still one.
    assert 20 <= len(caplog.records) <= 80


REFUSED = [
    b"GET /?token=s3cret HTTP/1.1\r\nHost: x\r\nCookie: id=s3cret\r\nAuthorization: Bearer s3cret\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nCookie: id=s3cret\x01\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: s3cret\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization s3cret\r\n\r\n",
    b"G\x1b[31mT /?s3cret\r\n HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: \x9b31m\r\n\r\n",
    b"GET / HTTP/9.\x85\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nCookie: s3cret\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://\xe9\x9b\r\n\r\n",
]


def test_r34_records_of_refused_handshakes_are_escaped_and_tell_no_secrets(run, caplog):
    caplog.set_level(logging.DEBUG, "fastws")

    async def main():
        async with serve(Echo, origins=["http://x"]) as server:
            for request in REFUSED:
                async with raw(server, request) as (reader, _):
                    assert (await reader.read()).startswith(b"HTTP/1.1 4")

    run(main)
    texts = [r.getMessage() for r in caplog.records if r.name.startswith("fastws")]
    assert len(texts) == len(REFUSED)
    for text in texts:
        assert text.isascii(), text
        assert text.isprintable(), text
        assert "s3cret" not in text


def test_r34_records_of_failed_connections_tell_no_payloads(run, caplog):
    caplog.set_level(logging.DEBUG)
    failing = [
        frame(TEXT, b"s3cret\xff"),
        b"\x81\x06s3cret",
        frame(0x83, b"s3cret"),
        frame(CLOSE, b"\x03\xe8s3cret\xff"),
        frame(TEXT, b"s3cret" * 1000),
        frame(0x01, b"s3cret") + frame(TEXT, b"s3cret"),
    ]

    async def main():
        async with serve(Echo, max_size=1000) as server:
            for data in failing:
                async with opened(server) as (reader, writer):
                    writer.write(data)
                    assert (await read_frame(reader))[0] == CLOSE

    run(main)
    for record in caplog.records:
        assert "s3cret" not in logging.Formatter().format(record)


@pytest.mark.without_tls("with its handshakes it takes longer than a flood does")
def test_r34_a_flood_is_summed_up_when_it_is_over(run, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "fastws")

    async def main():
        async with serve(Echo) as server:

            async def refused():
                async with raw(server, b"nonsense\r\n\r\n") as (reader, _):
                    await reader.read()

            for _ in range(50):
                await refused()
            fastws.log._seen.update(
                {key: [start - 2, *rest] for key, (start, *rest) in fastws.log._seen.items()}
            )
            await refused()

    run(main)
    texts = [r.getMessage() for r in caplog.records if r.name.startswith("fastws")]
    assert len(texts) == 22
    assert "30 more" in texts[20]
