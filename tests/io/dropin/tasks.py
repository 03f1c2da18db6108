"""Programs of several tasks, and of several connections."""

import asyncio
import contextlib
import json

from dropin import call, how_closed, listen, raised


async def a_chat_room(servers, clients, log):
    """The one of websockets' documentation: registered connections, and broadcast."""
    room = set()

    async def handler(ws):
        name = json.loads(await ws.recv())["name"]
        room.add(ws)
        servers.broadcast(room, json.dumps({"joined": name}))
        try:
            async for message in ws:
                servers.broadcast(room, json.dumps({name: message}))
        finally:
            room.remove(ws)
            servers.broadcast(room, json.dumps({"left": name}))

    async with listen(servers, handler) as server, contextlib.AsyncExitStack() as stack:
        members = {}
        for name in ("ann", "bob", "cay"):
            ws = members[name] = await stack.enter_async_context(call(clients, server))
            await ws.send(json.dumps({"name": name}))
            for other, connection in members.items():
                log[other].append(json.loads(await connection.recv()))
        for name in ("bob", "ann"):
            await members[name].send("hello")
            for other, connection in members.items():
                log[other].append(json.loads(await connection.recv()))
        await members.pop("cay").close()
        for other, connection in members.items():
            log[other].append(json.loads(await connection.recv()))


async def broadcast_to_the_connections_of_a_server(servers, clients, log):
    async def handler(ws):
        await ws.wait_closed()

    async with listen(servers, handler) as server:
        connected = [await call(clients, server) for _ in range(3)]
        for ws in connected:
            await (await ws.ping())
        await connected[0].close()
        servers.broadcast(server.connections, "text")
        servers.broadcast(server.connections, bytearray(b"binary"))
        servers.broadcast(server.connections, b"text", text=True)
        for wrong in (1, ["a"], None):
            try:
                servers.broadcast(server.connections, wrong)
            except TypeError:
                log["server"].append("TypeError")
        for ws in connected[1:]:
            log["client"].append([await ws.recv() for _ in range(3)])
            await ws.close()


async def consumer_and_producer(servers, clients, log):
    """The handler of websockets' documentation: what ends first cancels the other."""
    outgoing = asyncio.Queue()

    async def consume(ws):
        async for message in ws:
            log["server"].append(message)
            outgoing.put_nowait(message.upper())

    async def produce(ws):
        while True:
            await ws.send(await outgoing.get())

    async def handler(ws):
        tasks = [asyncio.create_task(consume(ws)), asyncio.create_task(produce(ws))]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        log["server"].append((tasks[0] in done, tasks[1] in pending))
        for task in pending:
            task.cancel()
        log["server"].append([raised.cancelled() for raised in await finished(tasks)])

    async def finished(tasks):
        await asyncio.wait(tasks)
        return tasks

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for message in ("a", "b", "c"):
            await ws.send(message)
            log["client"].append(await ws.recv())


async def gathered(servers, clients, log):
    async def handler(ws):
        async def forward(other):
            async for message in ws:
                await other.put(message)

        async def back(other):
            for _ in range(3):
                await ws.send((await other.get()) * 2)

        queue = asyncio.Queue()
        await asyncio.gather(forward(queue), back(queue))
        log["server"].append("both ended")

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for message in "abc":
            await ws.send(message)
        log["client"].append([await ws.recv() for _ in range(3)])


async def many_senders(servers, clients, log):
    async def handler(ws):
        async def count(name):
            for i in range(50):
                await ws.send(f"{name}{i}")
                await asyncio.sleep(0)

        await asyncio.gather(*(asyncio.ensure_future(count(name)) for name in "abc"))

    async with listen(servers, handler) as server, call(clients, server) as ws:
        got = [message async for message in ws]
        for name in "abc":
            log["client"].append([message for message in got if message[0] == name])


async def a_message_during_fragments(servers, clients, log):
    async def handler(ws):
        log["server"] += [await ws.recv(), await ws.recv()]

    async with listen(servers, handler) as server, call(clients, server) as ws:
        begun, go = asyncio.Event(), asyncio.Event()

        async def slowly():
            yield "one, "
            begun.set()
            await go.wait()
            yield "two"

        first = asyncio.ensure_future(ws.send(slowly()))
        await begun.wait()
        second = asyncio.ensure_future(ws.send("whole"))
        await (await ws.ping())
        log["client"].append(second.done())
        go.set()
        await asyncio.gather(first, second)
        await ws.wait_closed()


async def a_broadcast_during_fragments(servers, clients, log):
    """It may come later, or not at all; it must not come between."""

    async def handler(ws):
        begun, go = asyncio.Event(), asyncio.Event()

        async def slowly():
            yield "one, "
            begun.set()
            await go.wait()
            yield "two"

        sending = asyncio.ensure_future(ws.send(slowly()))
        await begun.wait()
        servers.broadcast([ws], "between")
        go.set()
        await sending

    async with listen(servers, handler) as server, call(clients, server) as ws:
        try:
            log["client"].append(await ws.recv())
        except clients.ConnectionClosedError as error:
            log["client"].append(how_closed(error))


async def recv_with_a_timeout(servers, clients, log):
    async def handler(ws):
        try:
            await asyncio.wait_for(ws.recv(), 0.01)
        except (TimeoutError, asyncio.TimeoutError):
            log["server"].append("timeout")
        await ws.send("go on")
        log["server"].append(await asyncio.wait_for(ws.recv(), 10))
        receiving = asyncio.create_task(ws.recv())
        await asyncio.sleep(0)
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
        await ws.send("again")
        log["server"].append(await ws.recv())

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for _ in range(2):
            message = await ws.recv()
            log["client"].append(message)
            await ws.send(f"{message}!")
        await ws.wait_closed()


async def two_that_receive(servers, clients, log):
    async def all_of(stream):
        return [item async for item in stream]

    async def handler(ws):
        first = asyncio.create_task(ws.recv())
        await asyncio.sleep(0)
        log["server"].append(await raised(ws.recv()))
        log["server"].append(await raised(all_of(ws)))
        log["server"].append(await raised(all_of(ws.recv_streaming())))
        await ws.send("go on")
        log["server"].append(await first)

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await ws.recv()
        await ws.send("x")
        await ws.wait_closed()


async def pings_and_latency(servers, clients, log):
    async def handler(ws):
        log["server"].append(ws.latency)
        pong = await ws.ping("same")
        try:
            await ws.ping(b"same")
        except servers.ConcurrencyError:
            log["server"].append("ConcurrencyError")
        latency = await pong
        # Where uvloop's clock counts milliseconds it may be 0.
        log["server"].append((type(latency) is float, latency >= 0, ws.latency == latency))
        log["server"].append(await asyncio.gather(*[raised(await ws.ping()) for _ in range(3)]))
        await ws.pong(b"unasked")
        await ws.pong()
        await ws.send("end")

    async with (
        listen(servers, handler, ping_interval=None) as server,
        call(clients, server, ping_interval=None) as ws,
    ):
        log["client"].append(await ws.recv())


async def a_ping_that_is_never_answered(servers, clients, log):
    async def handler(ws):
        await ws.wait_closed()

    async with listen(servers, handler) as server, call(clients, server) as ws:
        pong = await ws.ping(b"last")
        await ws.close()
        # The answer may come before the end.
        log["client"].append(await raised(pong) in (None, "ConnectionClosedOK"))


async def keepalive(servers, clients, log):
    measured = asyncio.Event()

    async def handler(ws):
        while not ws.latency:
            await asyncio.sleep(0.005)
        measured.set()
        await ws.wait_closed()

    async with (
        listen(servers, handler, ping_interval=0.01, ping_timeout=10) as server,
        call(clients, server, ping_interval=0.01, ping_timeout=10) as ws,
    ):
        await measured.wait()
        while not ws.latency:
            await asyncio.sleep(0.005)
        log["client"].append(ws.state.name)


async def pings_of_wrong_types(servers, clients, log):
    async def handler(ws):
        for wrong in (3, ["a"], 1.5):
            for method in (ws.ping, ws.pong):
                try:
                    await method(wrong)
                except Exception as error:
                    log["server"].append((method.__name__, repr(wrong), type(error).__name__))
        await ws.send("end")

    async with listen(servers, handler) as server, call(clients, server) as ws:
        log["client"].append(await ws.recv())


async def sends_gathered_with_their_exceptions(servers, clients, log):
    """How programs reach many connections where each send may wait; some have closed meanwhile."""
    room, done = [], asyncio.Event()

    async def handler(ws):
        room.append(ws)
        await ws.wait_closed()
        if ws is room[0]:
            try:
                results = await asyncio.gather(*(one.send("x") for one in room), return_exceptions=True)
                log["server"].append([type(result).__name__ for result in results])
            finally:
                done.set()

    async with listen(servers, handler) as server:
        first = await call(clients, server)
        await (await first.ping())
        second = await call(clients, server)
        await (await second.ping())
        await first.close()
        await done.wait()
        await second.close()


async def a_send_as_a_task(servers, clients, log):
    """What it raises is the task's."""

    async def handler(ws):
        await ws.close()
        task = asyncio.create_task(ws.send("late"))
        await asyncio.wait([task])
        log["server"].append(type(task.exception()).__name__)

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await ws.wait_closed()


async def a_client_that_reconnects(servers, clients, log):
    requests, visits = [], []

    def process_request(connection, request):
        requests.append(request)
        return connection.respond(503, "Later.\n") if len(requests) == 2 else None

    async def handler(ws):
        visits.append(ws)
        if len(visits) < 3:
            await ws.close(1012, "again")
        else:
            await ws.send("third time")
            await ws.wait_closed()

    def delays():
        while True:
            log["client"].append("delay")
            yield 0

    async with listen(servers, handler, process_request=process_request) as server:
        async for ws in call(clients, server, reconnect_delays=delays):
            try:
                log["client"].append(await ws.recv())
            except clients.ConnectionClosed as error:
                log["client"].append(how_closed(error))
                continue
            await ws.close()
            break
        log["client"].append((ws.state.name, len(requests)))


async def a_client_that_gives_up(servers, clients, log):
    def process_request(connection, request):
        return connection.respond(403, "Never.\n")

    def process_exception(error):
        log["client"].append(type(error).__name__)
        return ValueError("enough") if len(log["client"]) > 2 else None

    async def handler(ws):
        await ws.wait_closed()

    async with listen(servers, handler, process_request=process_request) as server:
        try:
            async for _ in call(clients, server):
                log["client"].append("never")
        except clients.InvalidStatus as error:
            log["client"].append(error.response.status_code)
        opening = call(
            clients, server, process_exception=process_exception, reconnect_delays=lambda: iter([0] * 9)
        )
        try:
            async for _ in opening:
                log["client"].append("never")
        except ValueError as error:
            log["client"].append((str(error), type(error.__cause__).__name__))


async def a_proxy_between_two(servers, clients, log):
    """A server whose handler is a client of another."""

    async def upper(ws):
        async for message in ws:
            await ws.send(message.upper())

    async with listen(servers, upper) as behind:

        async def relay(ws):
            async with call(clients, behind) as upstream:

                async def pump(source, sink):
                    async for message in source:
                        await sink.send(message)
                    await sink.close()

                await asyncio.gather(pump(ws, upstream), pump(upstream, ws))
            log["relay"].append((ws.close_code, upstream.close_code))

        async with listen(servers, relay) as server, call(clients, server) as ws:
            for message in ("a", "b"):
                await ws.send(message)
                log["client"].append(await ws.recv())


PROGRAMS = [
    a_chat_room,
    broadcast_to_the_connections_of_a_server,
    consumer_and_producer,
    gathered,
    many_senders,
    a_message_during_fragments,
    a_broadcast_during_fragments,
    recv_with_a_timeout,
    two_that_receive,
    pings_and_latency,
    pings_of_wrong_types,
    sends_gathered_with_their_exceptions,
    a_send_as_a_task,
    a_ping_that_is_never_answered,
    keepalive,
    a_client_that_reconnects,
    a_client_that_gives_up,
    a_proxy_between_two,
]
