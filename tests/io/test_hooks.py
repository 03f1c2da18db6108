"""The hooks of the opening handshake, `process_request` and `process_response`, over real sockets."""

import asyncio

import pytest
import websockets
from peers import HANDSHAKE, Echo, half_close, masked, port_of, raw

import fastws

PAGE = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"


def uri_of(server):
    return f"ws://127.0.0.1:{port_of(server)}"


async def ask(server, data):
    """Send `data` and return status line, head and body of the answer, up to the end of the connection."""
    async with raw(server, data) as (reader, _):
        head, blank, body = (await reader.read()).partition(b"\r\n\r\n")
        assert blank
        return head.partition(b"\r\n")[0], head, body


def coroutine(function):
    async def hook(*args):
        await asyncio.sleep(0)
        return function(*args)

    return hook


def future(function):
    """A `def` that returns a task: awaitable, and no coroutine."""
    return lambda *args: asyncio.ensure_future(coroutine(function)(*args))


class Awaitable:
    def __init__(self, function, args):
        self.call = function, args

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        function, args = self.call
        return function(*args)


def awaitable(function):
    return lambda *args: Awaitable(function, args)


# How a hook may be written: what it does is the same.
KINDS = pytest.mark.parametrize(
    "kind", [lambda function: function, coroutine, future, awaitable], ids=["def", "async", "task", "object"]
)


# ---------------------------------------------------------------- process_request


@KINDS
def test_process_request_answers_or_lets_pass(run, kind):
    async def main():
        hook = kind(lambda ws, request: ws.respond(200, "hello") if request.path == "/page" else None)
        async with fastws.serve(Echo, "127.0.0.1", 0, process_request=hook) as server:
            first, head, body = await ask(server, PAGE)
            assert (first, body) == (b"HTTP/1.1 200 OK", b"hello\n")
            assert b"\r\nConnection: close" in head
            async with websockets.connect(uri_of(server) + "/other") as client:
                await client.send("x")
                assert await client.recv() == "x"
            assert (await ask(server, PAGE.replace(b"/page", b"/")))[0] == b"HTTP/1.1 426 Upgrade Required"

    run(main)


def test_messages_that_came_before_the_answer_are_delivered_before_the_end(run):
    got, over = [], asyncio.Event()

    async def on_message(_ws, message):
        got.append(message)
        await asyncio.sleep(0.02)

    async def main():
        early = b"".join(masked(0x81, text) for text in (b"1", b"2", b"3"))
        options = {
            "on_message": on_message,
            "on_close": lambda *_: over.set(),
            "process_request": lambda *_: asyncio.sleep(0.02),
        }
        async with (
            fastws.serve(host="127.0.0.1", port=0, **options) as server,
            raw(server, HANDSHAKE + early) as (reader, writer),
        ):
            await reader.readuntil(b"\r\n\r\n")
            half_close(writer)
            await over.wait()
        assert got == ["1", "2", "3"]

    run(main)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"OPTIONS / HTTP/1.0\r\n\r\n", b"ok\n"),
        (b"GET / HTTP/1.0\r\n\r\n", b"ok\n"),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"PURGE / HTTP/1.1\r\nHost: x\r\n\r\n", b"ok\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"ok\n"),
    ],
    ids=["OPTIONS-1.0", "GET-1.0", "HEAD", "PURGE", "POST"],
)
def test_h4_a_health_route_answers_whatever_probes_it(run, data, body):
    async def main():
        async with fastws.serve(
            Echo, "127.0.0.1", 0, process_request=lambda ws, request: ws.respond(200, "ok")
        ) as server:
            first, head, got = await ask(server, data)
            assert (first, got) == (b"HTTP/1.1 200 OK", body)
            assert b"\r\nContent-Length: 3" in head

    run(main)


def test_a_hook_sees_the_request_as_it_came(run):
    seen = []

    def hook(ws, request):
        seen.append((request.path, request.headers["X-Name"], ws.remote_address, ws.state))

    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, process_request=hook) as server,
            websockets.connect(
                uri_of(server) + "/a?b=%20c", additional_headers={"X-Name": "value"}
            ) as client,
        ):
            ((path, name, address, state),) = seen
            assert (path, name) == ("/a?b=%20c", "value")
            assert address == client.local_address
            assert state is fastws.State.CONNECTING

    run(main)


def test_a_hook_is_not_asked_about_requests_that_are_not_valid(run):
    def hook(ws, request):
        raise AssertionError(request)

    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, process_request=hook) as server:
            assert (await ask(server, b"GET /page HTTP/1.1\r\n\r\n"))[0] == b"HTTP/1.1 400 Bad Request"

    run(main)


# ---------------------------------------------------------------- process_response


@KINDS
@pytest.mark.parametrize("with_request_hook", [False, True])
def test_process_response_changes_the_101(run, kind, with_request_hook):
    def hook(ws, request, response):
        assert response.status_code == 101
        response.headers["X-Path"] = request.path
        if request.path == "/new":
            return fastws.Response(101, "Fine", response.headers)
        return None

    async def main():
        first = kind(lambda ws, request: None) if with_request_hook else None
        async with fastws.serve(
            Echo, "127.0.0.1", 0, process_request=first, process_response=kind(hook)
        ) as server:
            for path, reason in (("/same", "Switching Protocols"), ("/new", "Fine")):
                async with websockets.connect(uri_of(server) + path) as client:
                    assert client.response.headers["X-Path"] == path
                    assert client.response.reason_phrase == reason
                    await client.send("x")
                    assert await client.recv() == "x"

    run(main)


@KINDS
def test_process_response_replaces_what_would_have_been_said(run, kind):
    opened = []

    async def main():
        async with fastws.serve(
            on_open=opened.append,
            host="127.0.0.1",
            port=0,
            process_request=lambda ws, request: ws.respond(200, "page") if request.path == "/page" else None,
            process_response=kind(lambda ws, request, response: ws.respond(418, str(response.status_code))),
        ) as server:
            for data, would_be in (
                (HANDSHAKE, b"101\n"),
                (PAGE, b"200\n"),
                (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426\n"),
            ):
                first, _, body = await ask(server, data)
                assert first.startswith(b"HTTP/1.1 418 ")
                assert body == would_be
        assert opened == []

    run(main)


# ---------------------------------------------------------------- hooks that fail


def failing(*_args):
    raise ZeroDivisionError("the secret of the house")


@KINDS
@pytest.mark.parametrize("name", ["process_request", "process_response"])
@pytest.mark.parametrize("data", [HANDSHAKE, PAGE], ids=["handshake", "page"])
def test_h49_a_hook_that_raises_is_500_without_its_words_and_one_record(run, caplog, kind, name, data):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, **{name: kind(failing)}) as server:
            first, head, body = await ask(server, data)
            assert first == b"HTTP/1.1 500 Internal Server Error"
            assert b"\r\nConnection: close" in head
            assert b"secret" not in head + body
            assert b"ZeroDivision" not in head + body

    run(main)
    assert [r.exc_info[0] for r in caplog.records if r.levelname == "ERROR"] == [ZeroDivisionError]


@KINDS
@pytest.mark.parametrize("name", ["process_request", "process_response"])
def test_a_hook_that_returns_no_response_is_500(run, caplog, kind, name):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, **{name: kind(lambda *_args: "hello")}) as server:
            assert (await ask(server, HANDSHAKE))[0] == b"HTTP/1.1 500 Internal Server Error"

    run(main)
    assert [r.levelname for r in caplog.records if r.name == "fastws.server"] == ["ERROR"]


BAD = "a\r\nInjected: yes"


def with_field(value):
    def make(ws, *_args):
        response = ws.respond(200, "page")
        response.headers["X"] = value
        return response

    return make


@KINDS
@pytest.mark.parametrize("name", ["process_request", "process_response"])
@pytest.mark.parametrize(
    "make",
    [
        with_field(BAD),
        with_field("a\nInjected: yes"),
        with_field("a\rInjected: yes"),
        with_field("a\0Injected: yes"),
        lambda *_args: fastws.Response(200, "OK\r\nInjected: yes"),
        lambda *_args: fastws.Response(101, "OK\r\nInjected: yes"),
        lambda *_args: fastws.Response(200, "OK", {"X": BAD}),
    ],
    ids=["crlf", "lf", "cr", "nul", "reason", "reason-101", "mapping"],
)
def test_h34_a_response_that_cannot_be_sent_is_500_and_injects_nothing(run, caplog, kind, name, make):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, **{name: kind(make)}) as server:
            first, head, body = await ask(server, HANDSHAKE)
            assert first == b"HTTP/1.1 500 Internal Server Error"
            assert b"Injected" not in head + body

    run(main)
    assert [r.exc_info[0] for r in caplog.records if r.levelname == "ERROR"] == [ValueError]


@pytest.mark.parametrize("hook", ["process_request", "process_response"])
def test_h49_a_hook_that_returns_no_response_is_named_in_the_log(run, caplog, hook):
    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, **{hook: lambda *_: "ok"}) as server,
            raw(server) as (reader, _),
        ):
            assert (await reader.read()).startswith(b"HTTP/1.1 500 ")

    run(main)
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert f"{hook} returned 'ok', expected a Response or None" in str(record.exc_info[1])


def test_closing_the_server_does_not_wait_long_for_one_who_got_his_answer_and_stays(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with fastws.serve(Echo, "127.0.0.1", 0, close_timeout=1000) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 426 ")
            began = loop.time()
        assert loop.time() - began < 10
        writer.close()

    run(main)
