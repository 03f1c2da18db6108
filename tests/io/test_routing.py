"""Routes and Basic authentication, with a real client."""

import base64

import pytest
import websockets
from peers import echo, port_of, raw

import fastws

pytestmark = pytest.mark.without_tls("a handler knows nothing of it")


async def room(ws, name):
    await ws.send(f"{name} {ws.path_parameters['name']}")


class Callback(fastws.Handler):
    def on_open(self, ws):
        ws.send(f"callback {ws.path_parameters['rest']}")


ROUTES = {"/echo": echo, "/room/{name}": room, "/files/{rest:path}": Callback, "/room/first": echo}


def uri(server, path="/"):
    return f"ws://127.0.0.1:{port_of(server)}{path}"


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("/room/a%20b?x=1", "a b a b"),
        ("/files/x/y.txt", "callback x/y.txt"),
    ],
)
def test_a_route_gets_its_parameters(run, path, first):
    async def main():
        async with (
            fastws.route(ROUTES, "127.0.0.1", 0) as server,
            websockets.connect(uri(server, path)) as client,
        ):
            assert await client.recv() == first

    run(main)


@pytest.mark.parametrize("path", ["/echo", "/room/first", "/echo?query"])
def test_a_route_without_parameters_comes_first(run, path):
    async def main():
        async with (
            fastws.route(ROUTES, "127.0.0.1", 0) as server,
            websockets.connect(uri(server, path)) as client,
        ):
            await client.send("x")
            assert await client.recv() == "x"

    run(main)


@pytest.mark.parametrize("path", ["/", "/echo/", "/room/", "/room/a/b", "/files/"])
def test_a_path_without_a_route_gets_404(run, path):
    async def main():
        async with fastws.route(ROUTES, "127.0.0.1", 0) as server:
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(uri(server, path))
            assert caught.value.response.status_code == 404

    run(main)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_process_request_comes_before_the_routes(run, asynchronous):
    def answer(ws, request):
        return ws.respond(200, "fine") if request.path == "/health" else None

    async def answer_later(ws, request):
        return answer(ws, request)

    async def main():
        hook = answer_later if asynchronous else answer
        async with fastws.route(ROUTES, "127.0.0.1", 0, process_request=hook) as server:
            async with raw(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") as (reader, _):
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(uri(server))
            async with websockets.connect(uri(server, "/echo")) as client:
                await client.send("x")
                assert await client.recv() == "x"

    run(main)


@pytest.mark.parametrize("pattern", ["echo", "/a{", "/{1}", "/{a}/{a}", "/}"])
def test_a_pattern_that_is_none_is_a_value_error(pattern):
    with pytest.raises(ValueError, match="route is"):
        fastws.route({pattern: echo})


def authorization(text):
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        (authorization("eve:pa:ss"), True),
        (authorization("bob:é"), True),
        (authorization("eve:wrong"), False),
        (authorization("nobody:pa:ss"), False),
        (authorization("eve"), False),
        ({"Authorization": "Basic !!"}, False),
        ({"Authorization": "Bearer x"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("check", ["credentials", "function", "coroutine"])
def test_h50_basic_authentication_lets_in_who_is_known(run, headers, accepted, check):
    known = {"eve": "pa:ss", "bob": "é"}

    async def coroutine(username, password):
        return known.get(username) == password

    arguments = {
        "credentials": {"credentials": list(known.items())},
        "function": {"check_credentials": lambda name, password: known.get(name) == password},
        "coroutine": {"check_credentials": coroutine},
    }[check]

    async def who(ws):
        await ws.send(ws.username)

    async def main():
        async with fastws.serve(
            who, "127.0.0.1", 0, process_request=fastws.basic_auth("my realm", **arguments)
        ) as server:
            if accepted:
                async with websockets.connect(uri(server), additional_headers=headers) as client:
                    assert await client.recv() in known
                return
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(uri(server), additional_headers=headers)
            response = caught.value.response
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == 'Basic realm="my realm", charset="UTF-8"'

    run(main)


def test_basic_auth_takes_one_pair_and_refuses_what_is_none():
    fastws.basic_auth(credentials=("a", "b"))
    for arguments in ({}, {"credentials": [], "check_credentials": print}, {"credentials": ["abc"]}):
        with pytest.raises(TypeError):
            fastws.basic_auth(**arguments)
    with pytest.raises(ValueError, match="realm"):
        fastws.basic_auth("é", credentials=("a", "b"))
