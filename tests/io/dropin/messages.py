"""Programs that send and receive."""

import asyncio

from dropin import by_hand, call, how_closed, listen


async def echo(servers, clients, log):
    async def handler(ws):
        async for message in ws:
            log["server"].append(message)
            await ws.send(message)
        log["server"].append("end")

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for message in (
            "",
            "text",
            "é一😀" * 1000,
            b"",
            b"\x00\xff" * 500,
            bytearray(b"a"),
            memoryview(b"b"),
        ):
            await ws.send(message)
            log["client"].append(await ws.recv())


async def iteration_on_the_client(servers, clients, log):
    async def handler(ws):
        for i in range(100):
            await ws.send(str(i))

    async with listen(servers, handler) as server, call(clients, server) as ws:
        async for message in ws:
            log["client"].append(message)
        log["client"].append((ws.close_code, ws.close_reason))


async def text_and_binary_as_told(servers, clients, log):
    async def handler(ws):
        await ws.send("é", text=False)
        await ws.send("é".encode(), text=True)
        await ws.send(["a", "b"], text=False)
        await ws.send([b"a", b"b"], text=True)
        for decode in (None, True, False):
            for _ in range(2):
                log["server"].append(await ws.recv(decode))
                log["server"].append(await ws.recv(decode=decode))

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for _ in range(4):
            log["client"].append(await ws.recv())
        for _ in range(3):
            await ws.send("è")
            await ws.send("è")
            await ws.send("è".encode())
            await ws.send("è".encode())
        await ws.wait_closed()


async def sending_fragments(servers, clients, log):
    def generator():
        yield "one, "
        yield ""
        yield "two"

    async def asynchronous():
        for item in (b"\x00", b"\xff" * 70_000):
            await asyncio.sleep(0)
            yield item

    async def handler(ws):
        async for message in ws:
            log["server"].append(message)

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for message in (["a", "b"], (b"a", bytearray(b"b")), generator(), asynchronous(), [], iter(["end"])):
            await ws.send(message)


async def receiving_fragments(servers, clients, log):
    taken = asyncio.Event()

    async def slowly():
        for fragment in ("one", "two", "three"):
            yield fragment
            await taken.wait()
            taken.clear()

    async def handler(ws):
        async for fragment in ws.recv_streaming():
            # The end of a message may come as a fragment of its own, with nothing in it.
            if fragment:
                log["server"].append(fragment)
                taken.set()
        async for fragment in ws.recv_streaming(decode=False):
            log["server"].append(fragment)
        log["server"].append(await ws.recv())

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await ws.send(slowly())
        await ws.send("whole")
        await ws.send("next")
        await ws.wait_closed()


async def what_cannot_be_sent(servers, clients, log):
    async def handler(ws):
        async for message in ws:
            log["server"].append(message)

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for message in ({"a": 1}, 1, None, 1.5, object()):
            try:
                await ws.send(message)
            except TypeError:
                log["client"].append((type(message).__name__, ws.state.name))
        await ws.send("still open")


async def fragments_of_two_types(servers, clients, log):
    """From a generator: of a list fastws sends nothing, and the connection stays open."""

    def mixed():
        yield "a"
        yield b"b"

    async def handler(ws):
        try:
            await ws.recv()
        except servers.ConnectionClosed as error:
            log["server"].append((type(error).__name__, error.rcvd.code))

    async with listen(servers, handler) as server, call(clients, server) as ws:
        try:
            await ws.send(mixed())
        except TypeError:
            log["client"].append("TypeError")
        await ws.wait_closed()
        log["client"].append(ws.state.name)


async def more_than_max_size_to_the_server(servers, clients, log):
    async def handler(ws):
        try:
            async for message in ws:
                log["server"].append(len(message))
        except servers.ConnectionClosed as error:
            log["server"].append((type(error).__name__, error.rcvd is None, error.sent.code))

    async with listen(servers, handler, max_size=1000) as server, call(clients, server) as ws:
        await ws.send("x" * 1000)
        await ws.send("x" * 1001)
        try:
            await ws.recv()
        except clients.ConnectionClosed as error:
            log["client"].append((type(error).__name__, error.rcvd.code, error.rcvd_then_sent))
        log["client"].append(ws.close_code)


async def more_than_max_size_to_the_client(servers, clients, log):
    async def handler(ws):
        await ws.send(["x" * 500, "x" * 500])
        await ws.send(["x" * 500, "x" * 501])
        await ws.wait_closed()
        log["server"].append(ws.close_code)

    async with listen(servers, handler) as server, call(clients, server, max_size=1000) as ws:
        log["client"].append(len(await ws.recv()))
        try:
            await ws.recv()
        except clients.ConnectionClosedError as error:
            log["client"].append(error.sent.code)


async def a_message_without_limit(servers, clients, log):
    async def handler(ws):
        await ws.send(await ws.recv())

    async with (
        listen(servers, handler, max_size=None) as server,
        call(clients, server, max_size=None) as ws,
    ):
        await ws.send(b"x" * 3_000_000)
        log["client"].append(len(await ws.recv()))


async def a_short_queue_loses_nothing(servers, clients, log):
    async def handler(ws):
        async for message in ws:
            log["server"].append(message)
            await asyncio.sleep(0)

    async with listen(servers, handler, max_queue=2) as server, call(clients, server, max_queue=None) as ws:
        for i in range(500):
            await ws.send(str(i))


async def binary_taken_as_text_that_is_none(servers, clients, log):
    async def handler(ws):
        try:
            await ws.recv(decode=True)
        except servers.ConnectionClosedError as error:
            log["server"].append(error.sent.code)

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await ws.send(b"\xff")
        await ws.wait_closed()
        log["client"].append(ws.close_code)


async def text_that_is_no_text(servers, clients, log):
    """In a frame made by hand: fastws does not send it."""

    async def handler(ws):
        try:
            await ws.recv()
        except servers.ConnectionClosedError as error:
            log["server"].append(error.sent.code)

    async with listen(servers, handler) as server, by_hand(server, b"\x81\x81\0\0\0\0\xff") as (reader, _):
        head = await reader.readexactly(4)
        log["client"].append((head[0], int.from_bytes(head[2:], "big")))


async def send_after_the_end(servers, clients, log):
    async def handler(ws):
        await ws.close(4000, "gone")
        for call_it in (lambda: ws.send("x"), ws.recv, ws.ping, ws.pong, lambda: anext(aiter(ws))):
            try:
                await call_it()
            except servers.ConnectionClosed as error:
                log["server"].append(how_closed(error))
        await ws.close()
        log["server"].append(ws.state.name)

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await ws.wait_closed()
        for call_it in (lambda: ws.send("x"), ws.recv, ws.ping, ws.pong):
            try:
                await call_it()
            except clients.ConnectionClosed as error:
                log["client"].append(how_closed(error))


PROGRAMS = [
    echo,
    iteration_on_the_client,
    text_and_binary_as_told,
    sending_fragments,
    receiving_fragments,
    what_cannot_be_sent,
    fragments_of_two_types,
    more_than_max_size_to_the_server,
    more_than_max_size_to_the_client,
    a_message_without_limit,
    a_short_queue_loses_nothing,
    binary_taken_as_text_that_is_none,
    text_that_is_no_text,
    send_after_the_end,
]
