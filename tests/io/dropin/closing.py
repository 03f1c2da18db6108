"""Programs about the end of a connection, and of a server."""

import asyncio

from dropin import by_hand, call, how_closed, listen, raised


async def until_closed(library, ws, log):
    """Receive to the end, and note how it came."""
    try:
        while True:
            log.append(await ws.recv())
    except library.ConnectionClosed as error:
        log.append(how_closed(error))
    log.append((ws.close_code, ws.close_reason))
    await ws.wait_closed()
    log.append(ws.state.name)


async def from_the_client(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server:
        for arguments in ((), (1000, "done"), (1001, ""), (1011, "é"), (3000, "x" * 123), (4999, "")):
            async with call(clients, server) as ws:
                await ws.send("last words")
                await ws.close(*arguments)
                await until_closed(clients, ws, log["client"])


async def from_the_server(servers, clients, log):
    async def handler(ws):
        arguments = {"a": (), "b": (1001, "away"), "c": (1008, "policy"), "d": (4000, "é")}[await ws.recv()]
        await ws.send("last words")
        await ws.close(*arguments)
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server:
        for choice in "abcd":
            async with call(clients, server) as ws:
                await ws.send(choice)
                await until_closed(clients, ws, log["client"])


async def by_name_and_by_enumeration(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await ws.close(code=clients.CloseCode.GOING_AWAY, reason="home")


async def twice(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await ws.close(4001, "first")
        await ws.close(4002, "second")
        await ws.wait_closed()
        await until_closed(clients, ws, log["client"])


async def kinds_of_exceptions(servers, clients, log):
    async def handler(ws):
        await ws.close(int(await ws.recv()))

    async with listen(servers, handler) as server:
        for code in (1000, 1001, 1011, 4000):
            async with call(clients, server) as ws:
                await ws.send(str(code))
                try:
                    await ws.recv()
                except clients.ConnectionClosedOK as error:
                    log["client"].append(("OK", str(error).startswith(f"received {code}")))
                except clients.ConnectionClosedError as error:
                    log["client"].append(("Error", str(error).startswith(f"received {code}")))


async def during_fragments(servers, clients, log):
    """A message that was cut off is no orderly end."""
    begun = asyncio.Event()

    async def without_end():
        yield "a"
        begun.set()
        await asyncio.Event().wait()

    async def handler(ws):
        try:
            log["server"].append(await ws.recv())
        except servers.ConnectionClosed as error:
            log["server"].append(type(error).__name__)

    async with listen(servers, handler) as server:
        ws = await call(clients, server)
        sending = asyncio.ensure_future(ws.send(without_end()))
        await begun.wait()
        await ws.close()
        sending.cancel()
        await asyncio.wait([sending])


async def messages_that_came_before_close(servers, clients, log):
    async def handler(ws):
        log["server"].append(await ws.recv())
        await (await ws.ping())
        await ws.close()
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for message in "abc":
            await ws.send(message)
        await ws.wait_closed()


async def a_handler_that_returns(servers, clients, log):
    async def handler(ws):
        await ws.send("bye")

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await until_closed(clients, ws, log["client"])


async def a_handler_that_raises(servers, clients, log):
    """What the reason says is up to the library."""

    async def handler(ws):
        await ws.recv()
        raise ValueError("mine")

    async with listen(servers, handler) as server, call(clients, server) as ws:
        await ws.send("x")
        try:
            await ws.recv()
        except clients.ConnectionClosedError as error:
            log["client"].append((error.rcvd.code, error.sent.code, error.rcvd_then_sent, ws.close_code))


async def the_state_when_recv_raises(servers, clients, log):
    async def handler(ws):
        try:
            await ws.recv()
        except servers.ConnectionClosed:
            log["server"].append((ws.state is servers.State.CLOSED, ws.state.name))

    async with listen(servers, handler) as server:
        ws = await call(clients, server)
        await ws.close()


async def a_body_that_raises(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server:
        try:
            async with call(clients, server) as ws:
                raise ValueError("mine")
        except ValueError:
            log["client"].append((ws.state.name, ws.close_code))


async def a_handler_that_lets_the_end_through(servers, clients, log):
    async def handler(ws):
        try:
            await ws.recv()
        finally:
            log["server"].append(ws.close_code)

    async with listen(servers, handler) as server:
        for code in (1000, 4000):
            async with call(clients, server) as ws:
                await ws.close(code)
            log["client"].append(ws.close_code)


async def a_connection_as_a_context(servers, clients, log):
    async def handler(ws):
        async with ws:
            await ws.send("hello")
        log["server"].append(ws.state.name)

    async with listen(servers, handler) as server:
        async with await call(clients, server) as ws:
            log["client"].append(await ws.recv())
        log["client"].append((ws.state.name, ws.close_code))


async def awaited_and_closed_by_hand(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    server = await listen(servers, handler)
    ws = await call(clients, server)
    try:
        await ws.send("x")
    finally:
        await ws.close()
        server.close()
        await server.wait_closed()
    log["server"].append((server.is_serving(), len(server.connections)))


async def a_server_that_closes_with_clients(servers, clients, log):
    async def handler(ws):
        try:
            async for _ in ws:
                pass
        finally:
            log["server"].append(ws.close_code)

    async with listen(servers, handler) as server:
        connected = [await call(clients, server) for _ in range(3)]
        log["server"].append(server.is_serving())
        for ws in connected:
            await ws.send("x")
            await (await ws.ping())
        log["server"].append(len(server.connections))
        server.close()
        await server.wait_closed()
        log["server"].append((server.is_serving(), len(server.sockets), len(server.connections)))
    for ws in connected:
        await until_closed(clients, ws, log["client"])


async def a_server_that_closes_with_a_code(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server:
        ws = await call(clients, server)
        await (await ws.ping())
        server.close(code=1012, reason="restart")
        await until_closed(clients, ws, log["client"])


async def a_server_that_leaves_connections_open(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    server = await listen(servers, handler)
    ws = await call(clients, server)
    await (await ws.ping())
    server.close(close_connections=False)
    waiting = asyncio.ensure_future(server.wait_closed())
    await ws.send("still here")
    await (await ws.ping())
    log["client"].append(waiting.done())
    await ws.close()
    await waiting


async def a_server_that_serves_until_cancelled(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    server = await listen(servers, handler)
    serving = asyncio.ensure_future(server.serve_forever())
    ws = await call(clients, server)
    await (await ws.ping())
    serving.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        log["server"].append("cancelled")
    await until_closed(clients, ws, log["client"])


async def a_peer_that_is_gone(servers, clients, log):
    gone = asyncio.Event()

    async def handler(ws):
        await ws.recv()
        try:
            await ws.recv()
        except servers.ConnectionClosedError as error:
            log["server"].append(how_closed(error))
        log["server"].append((ws.close_code, ws.close_reason))
        gone.set()

    async with listen(servers, handler) as server:
        async with by_hand(server, b"\x81\x81\0\0\0\0x"):
            pass
        await gone.wait()


async def by_position(servers, clients, log):
    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server:
        ws = await call(clients, server)
        await (await ws.ping())
        server.close(True, 1012, "restart")
        await until_closed(clients, ws, log["client"])


async def the_peer_s_address_after_the_end(servers, clients, log):
    async def handler(ws):
        before = ws.remote_address
        await ws.wait_closed()
        log["server"].append(ws.remote_address == before)

    async with listen(servers, handler) as server, call(clients, server) as ws:
        before = ws.remote_address
        await ws.close()
        log["client"].append(ws.remote_address == before)


async def codes_that_must_not_be_sent(servers, clients, log):
    """Whatever is raised, the connection is as it was before."""

    async def handler(ws):
        await until_closed(servers, ws, log["server"])

    async with listen(servers, handler) as server, call(clients, server) as ws:
        for arguments in ((999,), (1005,), (1006,), (5000,), (1000, "x" * 124)):
            try:
                await ws.close(*arguments)
            except Exception:
                log["client"].append((arguments[0], ws.state.name))


async def wait_closed_in_two_tasks(servers, clients, log):
    async def handler(ws):
        await asyncio.gather(ws.wait_closed(), ws.wait_closed())
        log["server"].append(ws.close_code)

    async with listen(servers, handler) as server, call(clients, server) as ws:
        log["client"].append(await raised(ws.close(4000)))


PROGRAMS = [
    from_the_client,
    from_the_server,
    by_name_and_by_enumeration,
    twice,
    kinds_of_exceptions,
    during_fragments,
    messages_that_came_before_close,
    a_handler_that_returns,
    a_handler_that_raises,
    the_state_when_recv_raises,
    a_body_that_raises,
    a_handler_that_lets_the_end_through,
    a_connection_as_a_context,
    awaited_and_closed_by_hand,
    a_server_that_closes_with_clients,
    a_server_that_closes_with_a_code,
    a_server_that_leaves_connections_open,
    a_server_that_serves_until_cancelled,
    a_peer_that_is_gone,
    by_position,
    the_peer_s_address_after_the_end,
    codes_that_must_not_be_sent,
    wait_closed_in_two_tasks,
]
