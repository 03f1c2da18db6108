"""Connecting again and again: `async for ws in connect(...)`, and its delays."""

import asyncio
import itertools
import logging

import pytest
from connecting import MARKS, closed_port, peer, serve, silent, uri_of

from fastws.client import backoff, connect, process_exception
from fastws.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    SecurityError,
)
from fastws.http11 import Response

pytestmark = MARKS


def at_once():
    return itertools.repeat(0.0)


def test_connection_is_opened_again_when_it_is_lost(run):
    async def main():
        count = 0

        async def two(ws):
            await ws.send("a")
            await ws.close(1012)

        async with serve(two) as server:
            async for ws in connect(uri_of(server)):
                count += 1
                assert await ws.recv() == "a"
                try:
                    await ws.recv()
                except ConnectionClosed:
                    if count < 3:
                        continue
                    break

        assert count == 3

    run(main)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_failure_that_may_pass_is_retried_and_logged(run, status, caplog):
    async def main():
        attempts = []

        def process_request(ws, request):
            attempts.append(request)
            return ws.respond(status, "") if len(attempts) < 4 else None

        async with serve(process_request=process_request) as server:
            async for ws in connect(uri_of(server), reconnect_delays=at_once):
                await ws.send("a")
                assert await ws.recv() == "a"
                break
        assert len(attempts) == 4

    caplog.set_level(logging.INFO, "fastws.client")
    run(main)
    ours = [record for record in caplog.records if record.name == "fastws.client"]
    assert [record.levelname for record in ours] == ["INFO"] * 3
    assert f"status {status}" in ours[0].getMessage()


def test_lost_and_refused_connections_are_retried(run):
    errors = []

    def note(exc):
        errors.append(exc)
        return process_exception(exc) if len(errors) < 4 else exc

    async def main():
        async with peer(b"", b"HTTP/1.1 101 x\r\n", silent, b"HTTP/1.1 404 x\r\n\r\n") as server:
            with pytest.raises(InvalidStatus):
                async for _ in connect(
                    uri_of(server), reconnect_delays=at_once, process_exception=note, open_timeout=0.5
                ):
                    raise AssertionError
        assert [type(error) for error in errors] == [
            InvalidMessage, InvalidMessage, TimeoutError, InvalidStatus,
        ]  # fmt: skip

    run(main)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 429, 501])
def test_failure_that_will_not_pass_ends_the_loop(run, status):
    async def main():
        async with serve(process_request=lambda ws, _: ws.respond(status, "")) as server:
            with pytest.raises(InvalidStatus, match=str(status)):
                async for _ in connect(uri_of(server)):
                    raise AssertionError

    run(main)


@pytest.mark.parametrize("raises", [False, True])
def test_process_exception_may_name_another_exception(run, raises):
    class Enough(Exception):
        pass

    def process(exc):
        if raises:
            raise Enough("a")
        return Enough("a")

    async def main():
        with pytest.raises(Enough) as caught:
            async for _ in connect(f"ws://127.0.0.1:{closed_port()}/", process_exception=process):
                raise AssertionError
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)

    run(main)


def test_delays_begin_anew_after_a_connection(run):
    made = []

    def delays():
        made.append([])
        while True:
            made[-1].append(0.0)
            yield 0.0

    async def main():
        answers = iter([503, 503, None, 503, None])

        def process_request(ws, request):
            status = next(answers)
            return None if status is None else ws.respond(status, "")

        async with serve(process_request=process_request) as server:
            count = 0
            async for _ in connect(uri_of(server), reconnect_delays=delays):
                count += 1
                if count == 2:
                    break
        assert [len(one) for one in made] == [2, 1]

    run(main)


def test_default_judgement_of_exceptions_is_that_of_websockets():
    ended, invalid = InvalidMessage("a"), InvalidMessage("a")
    ended.__cause__ = EOFError()
    for error in (OSError(), ConnectionResetError(), TimeoutError(), asyncio.TimeoutError(), ended):
        assert process_exception(error) is None
    for status in range(200, 600):
        error = InvalidStatus(Response(status, ""))
        assert process_exception(error) is (None if status in (500, 502, 503, 504) else error)
    for error in (invalid, InvalidURI("a", "b"), InvalidHandshake(), SecurityError(), ValueError()):
        assert process_exception(error) is error


def test_delays_grow_and_are_random_at_first():
    for _ in range(20):
        delays = list(itertools.islice(backoff(), 12))
        assert 0 <= delays[0] < 5
        assert delays[1:4] == [3.1, 3.1 * 1.618, 3.1 * 1.618 * 1.618]
        assert delays[1:] == sorted(delays[1:])
        assert delays[-1] == 90
    assert len({next(backoff()) for _ in range(20)}) > 1
    assert list(itertools.islice(backoff(0, 1, 4, 2), 5)) == [0, 1, 2, 4, 4]
