"""Programs about the opening handshake, and what a connection tells about itself."""

import asyncio
import http
import os
import re
import tempfile
import uuid

from dropin import call, listen


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def refusal(library, opening, log):
    """Connect where the server refuses, and note what it says."""
    try:
        async with opening:
            log.append("accepted")
    except library.InvalidStatus as error:
        response = error.response
        log.append((response.status_code, response.reason_phrase, bytes(response.body)))
        log.append(response.headers.get("Content-Type"))
        return response
    return None


async def a_health_route(servers, clients, log):
    def health(connection, request):
        log["server"].append(request.path)
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        return None

    async with listen(servers, echo, process_request=health) as server:
        await refusal(clients, call(clients, server, "/healthz"), log["client"])
        async with call(clients, server, "/chat?room=1") as ws:
            await ws.send("x")
            log["client"].append(await ws.recv())


async def a_health_route_by_plain_http(servers, clients, log):
    async def health(connection, request):
        await asyncio.sleep(0)
        return connection.respond(http.HTTPStatus.NOT_FOUND, "é\n") if request.path == "/" else None

    async with listen(servers, echo, process_request=health, server_header=None) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        lines = head.split(b"\r\n")
        log["client"].append((lines[0], sorted(x for x in lines[1:] if not x.startswith(b"Date")), body))


async def a_changed_refusal(servers, clients, log):
    def refuse(connection, request):
        response = connection.respond(403, "No.\n")
        response.headers["X-Why"] = "because"
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html"
        return response

    async with listen(servers, echo, process_request=refuse) as server:
        response = await refusal(clients, call(clients, server), log["client"])
        log["client"].append(response.headers["x-why"])


async def a_refusal_made_by_hand(servers, clients, log):
    def refuse(connection, request):
        headers = servers.Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "3")])
        return servers.Response(418, "I'm a teapot", headers, b"tea")

    async with listen(servers, echo, process_request=refuse) as server:
        response = await refusal(clients, call(clients, server), log["client"])
        log["client"].append(response.headers.get_all("set-cookie"))


async def a_hook_that_raises(servers, clients, log):
    def process_request(connection, request):
        raise ValueError("mine")

    async with listen(servers, echo, process_request=process_request) as server:
        try:
            await call(clients, server)
        except clients.InvalidStatus as error:
            log["client"].append(error.response.status_code)


async def a_header_added_to_the_response(servers, clients, log):
    async def process_response(connection, request, response):
        response.headers["X-Served-By"] = "me"
        log["server"].append((request.path, response.status_code))

    async with (
        listen(servers, echo, process_response=process_response, server_header="mine") as server,
        call(clients, server) as ws,
    ):
        log["client"].append(
            (ws.response.status_code, ws.response.headers["X-Served-By"], ws.response.headers["Server"])
        )


async def attributes_set_by_process_request(servers, clients, log):
    def process_request(connection, request):
        connection.user = request.headers["X-User"]
        log["server"].append(connection.state.name)

    async def handler(ws):
        await ws.send(f"hello {ws.user}")

    async with (
        listen(servers, handler, process_request=process_request) as server,
        call(clients, server, additional_headers={"X-User": "ann"}) as ws,
    ):
        log["client"].append(await ws.recv())


async def a_subprotocol_of_a_list(servers, clients, log):
    async def handler(ws):
        log["server"].append(ws.subprotocol)

    async with listen(servers, handler, subprotocols=["d", "b", "a"]) as server:
        for offered in (["a", "b", "c"], ["a"]):
            async with call(clients, server, subprotocols=offered) as ws:
                log["client"].append((ws.subprotocol, ws.response.headers["Sec-WebSocket-Protocol"]))
                await ws.wait_closed()
        for offered in (["x"], None):
            try:
                async with call(clients, server, subprotocols=offered) as ws:
                    log["client"].append(ws.subprotocol)
                    await ws.wait_closed()
            except clients.InvalidStatus as error:
                log["client"].append(error.response.status_code)


async def a_subprotocol_by_a_function(servers, clients, log):
    def select(connection, subprotocols):
        log["server"].append((connection.request.path, list(subprotocols)))
        if "v9" in subprotocols:
            raise servers.NegotiationError("too new")
        return next((s for s in subprotocols if s.startswith("v")), None)

    async with listen(servers, echo, select_subprotocol=select) as server:
        for offered in (["x", "v2", "v1"], ["x"], None):
            async with call(clients, server, subprotocols=offered) as ws:
                log["client"].append(ws.subprotocol)
        try:
            await call(clients, server, subprotocols=["v9"])
        except clients.InvalidStatus as error:
            log["client"].append(error.response.status_code)


async def origins(servers, clients, log):
    allowed = ["https://a.example", re.compile(r"https?://[a-z]+\.b\.example")]
    tried = (
        None,
        "https://a.example",
        "https://x.b.example",
        "https://x.b.example.evil",
        "https://c.example",
    )
    for more in ([], [None]):
        async with listen(servers, echo, origins=allowed + more) as server:
            for origin in tried:
                try:
                    async with call(clients, server, origin=origin):
                        log["client"].append((origin, "accepted"))
                except clients.InvalidStatus as error:
                    log["client"].append((origin, error.response.status_code))


async def basic_authentication(servers, clients, log):
    async def handler(ws):
        await ws.send(ws.username)

    def check(username, password):
        return username == password

    async def check_later(username, password):
        await asyncio.sleep(0)
        return check(username, password)

    for ask in (
        servers.basic_auth("home", credentials=[("ann", "secret"), ("bob", "bob")]),
        servers.basic_auth("home", ("bob", "bob")),
        servers.basic_auth("home", check_credentials=check),
        servers.basic_auth("home", check_credentials=check_later),
    ):
        async with listen(servers, handler, process_request=ask) as server:
            for user in ("bob:bob@", "ann:secret@", "bob:x@", ""):
                try:
                    async with call(clients, server, user=user) as ws:
                        log["client"].append(await ws.recv())
                except clients.InvalidStatus as error:
                    response = error.response
                    challenge = response.headers["WWW-Authenticate"]
                    log["client"].append((response.status_code, challenge.split(",")[0]))


async def what_a_connection_knows(servers, clients, log):
    async def handler(ws):
        request = ws.request
        log["server"].append((request.path, request.headers["X-Mine"], request.headers.get_all("x-mine")))
        log["server"].append((request.headers["User-Agent"], "origin" in request.headers))
        log["server"].append((ws.state.name, ws.state is servers.State.OPEN, ws.subprotocol, ws.latency))
        log["server"].append((type(ws.id) is uuid.UUID, ws.close_code, ws.close_reason))
        log["server"].append((ws.remote_address[0], len(ws.remote_address), ws.local_address == bound))
        log["server"].append((ws.server is server, ws in server.connections, hash(ws) == hash(ws)))
        log["server"].append(ws.response.status_code)
        await ws.send(str(ws.remote_address[1]))
        ws.logger.debug("hello")
        await ws.recv()

    async with listen(servers, handler) as server:
        bound = server.sockets[0].getsockname()
        headers = [("X-Mine", "1")]
        async with call(
            clients, server, "/p/%C3%A9?q=1", additional_headers=headers, user_agent_header="me"
        ) as ws:
            own = str(ws.local_address[1])
            log["client"].append(await ws.recv() == own)
            log["client"].append((ws.request.path, ws.request.headers["X-Mine"], ws.response.status_code))
            log["client"].append((ws.remote_address == bound, type(ws.id) is uuid.UUID, ws.subprotocol))
            await ws.send("enough")
            await ws.wait_closed()
            log["client"].append((ws.state.name, ws.state is clients.State.CLOSED))


async def on_a_unix_socket(servers, clients, log):
    async def handler(ws):
        log["server"].append(ws.request.headers["Host"])
        async for message in ws:
            await ws.send(message)

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        async with (
            servers.unix_serve(handler, path, compression=None),
            clients.unix_connect(path, compression=None) as ws,
        ):
            await ws.send("x")
            log["client"].append(await ws.recv())
            log["client"].append(ws.request.path)
        async with (
            servers.unix_serve(handler, path=path, compression=None),
            clients.unix_connect(path=path, uri="ws://example.com/there", compression=None) as ws,
        ):
            log["client"].append(ws.request.path)


async def a_redirect(servers, clients, log):
    def elsewhere(connection, request):
        log["server"].append(request.path)
        if request.path == "/old":
            response = connection.respond(http.HTTPStatus.FOUND, "")
            response.headers["Location"] = "/new"
            return response
        return None

    async with (
        listen(servers, echo, process_request=elsewhere) as server,
        call(clients, server, "/old") as ws,
    ):
        log["client"].append(ws.request.path)


async def where_nobody_listens(servers, clients, log):
    async with listen(servers, echo) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for address, kind in ((uri, OSError), ("http://localhost/", clients.InvalidURI)):
        try:
            await clients.connect(address, compression=None)
        except kind:
            log["client"].append(kind.__name__)


async def a_server_that_never_answers(servers, clients, log):
    never = asyncio.Event()

    async def process_request(connection, request):
        await never.wait()

    async with listen(servers, echo, process_request=process_request) as server:
        try:
            await call(clients, server, open_timeout=0.05)
        except (TimeoutError, asyncio.TimeoutError):
            log["client"].append("TimeoutError")
        never.set()


PROGRAMS = [
    a_health_route,
    a_health_route_by_plain_http,
    a_changed_refusal,
    a_refusal_made_by_hand,
    a_hook_that_raises,
    a_header_added_to_the_response,
    attributes_set_by_process_request,
    a_subprotocol_of_a_list,
    a_subprotocol_by_a_function,
    origins,
    basic_authentication,
    what_a_connection_knows,
    on_a_unix_socket,
    a_redirect,
    where_nobody_listens,
    a_server_that_never_answers,
]
