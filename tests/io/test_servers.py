"""Interoperability: `fastws.connect` with the servers that Python programs use. Node's is in test_node."""

import asyncio
import contextlib

import aiohttp.web
import picows
import pytest
from peers import until

import fastws

pytestmark = pytest.mark.without_tls("the servers are those of others")

MESSAGES = ["", "text", "é一😀" * 1000, b"", b"\x00\xff" * 500, "x" * 2**20, b"y" * 2**20]
TEXT, BINARY = ["one, ", "", "é一", "😀"], [b"\x00", b"\xff" * 70_000]

# Each server echoes; pings, closes and sends fragments when told to; chooses the subprotocol "b";
# and notes the Pings and the end it hears.


@contextlib.asynccontextmanager
async def aiohttp_server(heard):
    async def handler(request):
        ws = aiohttp.web.WebSocketResponse(protocols=["b"], autoping=False, autoclose=False, max_msg_size=0)
        await ws.prepare(request)
        while True:
            message = await ws.receive()
            if message.type is aiohttp.WSMsgType.PING:
                heard.append(("ping", bytes(message.data)))
                await ws.pong(message.data)
            elif message.type is aiohttp.WSMsgType.PONG:
                await ws.send_str(f"pong came: {bytes(message.data).decode()}")
            elif message.type is aiohttp.WSMsgType.BINARY:
                await ws.send_bytes(message.data)
            elif message.type is aiohttp.WSMsgType.CLOSE:
                heard.append((message.data, message.extra))
                await ws.close(code=message.data)
                return ws
            elif message.type is not aiohttp.WSMsgType.TEXT:
                return ws
            elif message.data == "ping me":
                await ws.ping(b"ours")
            elif message.data == "close me":
                await ws.close(code=4001, message="as you wish, é".encode())
                heard.append((ws.close_code, ""))
                return ws
            else:
                await ws.send_str(message.data)

    application = aiohttp.web.Application()
    application.router.add_get("/", handler)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    try:
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class PicowsListener(picows.WSListener):
    """One connection of a picows server, which hands out frames."""

    def __init__(self, heard):
        self.heard = heard
        self.fragments = []
        self.kind = None

    def on_ws_frame(self, transport, frame):
        kind = frame.msg_type
        if kind == picows.WSMsgType.PING:
            self.heard.append(("ping", frame.get_payload_as_bytes()))
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == picows.WSMsgType.PONG:
            transport.send(picows.WSMsgType.TEXT, b"pong came: " + frame.get_payload_as_bytes())
        elif kind == picows.WSMsgType.CLOSE:
            self.heard.append((int(frame.get_close_code()), bytes(frame.get_close_message()).decode()))
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            self.kind = self.kind if kind == picows.WSMsgType.CONTINUATION else kind
            self.fragments.append(frame.get_payload_as_bytes())
            if frame.fin:
                message = b"".join(self.fragments)
                self.fragments.clear()
                self.answer(transport, message)

    def answer(self, transport, message):
        if message == b"ping me":
            transport.send_ping(b"ours")
        elif message == b"close me":
            transport.send_close(4001, "as you wish, é".encode())
        elif message == b"fragments":
            for kind, fragments in (picows.WSMsgType.TEXT, TEXT), (picows.WSMsgType.BINARY, BINARY):
                for i, fragment in enumerate(fragments):
                    data = fragment.encode() if isinstance(fragment, str) else fragment
                    transport.send(kind, data, fin=i == len(fragments) - 1)
                    kind = picows.WSMsgType.CONTINUATION
        else:
            transport.send(self.kind, message)


@contextlib.asynccontextmanager
async def picows_server(heard):
    def accept(request):
        listener = PicowsListener(heard)
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(", ")
        fields = {"Sec-WebSocket-Protocol": "b"} if "b" in offered else None
        return picows.WSUpgradeResponseWithListener(
            picows.WSUpgradeResponse.create_101_response(fields), listener
        )

    server = await picows.ws_create_server(accept, "127.0.0.1", 0, enable_auto_pong=False)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


SERVERS = pytest.mark.parametrize("serve", [aiohttp_server, picows_server])


def visiting(run, serve, visit, **options):
    """Run `visit(ws, heard)` with a connection to a server, and what that hears."""

    async def main():
        heard = []
        async with serve(heard) as port, fastws.connect(f"ws://127.0.0.1:{port}/", **options) as ws:
            await visit(ws, heard)
        # aiohttp closes its transports a turn later.
        await asyncio.sleep(0)

    run(main)


@SERVERS
def test_messages_come_back_as_what_they_were(run, serve):
    async def visit(ws, _heard):
        for message in MESSAGES:
            await ws.send(message)
            assert await ws.recv() == message

    visiting(run, serve, visit)


@SERVERS
def test_many_messages_come_back_in_order(run, serve):
    async def visit(ws, _heard):
        sent = [str(i) * (i % 50) for i in range(300)]
        for message in sent:
            await ws.send(message)
        assert [await ws.recv() for _ in sent] == sent

    visiting(run, serve, visit)


@SERVERS
def test_the_server_takes_fragments_as_one_message(run, serve):
    async def visit(ws, _heard):
        await ws.send(TEXT)
        assert await ws.recv() == "".join(TEXT)
        await ws.send(iter(BINARY))
        assert await ws.recv() == b"".join(BINARY)

    visiting(run, serve, visit)


# aiohttp's server has no way to send fragments.
@pytest.mark.parametrize("serve", [picows_server])
def test_fragments_of_the_server_are_one_message(run, serve):
    async def visit(ws, _heard):
        await ws.send("fragments")
        assert [await ws.recv(), await ws.recv()] == ["".join(TEXT), b"".join(BINARY)]
        await ws.send("fragments")
        assert "".join([fragment async for fragment in ws.recv_streaming()]) == "".join(TEXT)
        assert b"".join([fragment async for fragment in ws.recv_streaming()]) == b"".join(BINARY)

    visiting(run, serve, visit)


@SERVERS
def test_the_server_answers_a_ping(run, serve):
    async def visit(ws, heard):
        assert await (await ws.ping("theirs")) > 0
        assert await (await ws.ping(b"")) > 0
        assert heard == [("ping", b"theirs"), ("ping", b"")]

    visiting(run, serve, visit)


@SERVERS
def test_f17_a_ping_of_the_server_is_answered(run, serve):
    async def visit(ws, _heard):
        await ws.send("ping me")
        assert await ws.recv() == "pong came: ours"

    visiting(run, serve, visit)


@SERVERS
def test_f22_the_server_hears_code_and_reason(run, serve):
    async def visit(ws, heard):
        await ws.close(3999, "enough, é")
        await until(lambda: heard)
        assert heard == [(3999, "enough, é")]
        assert ws.close_code == 3999  # what it echoes

    visiting(run, serve, visit)


@SERVERS
def test_the_server_closes_with_code_and_reason(run, serve):
    async def visit(ws, heard):
        await ws.send("close me")
        with pytest.raises(fastws.ConnectionClosedError) as caught:
            await ws.recv()
        assert caught.value.rcvd == fastws.Close(4001, "as you wish, é")
        await until(lambda: heard)
        assert heard[0][0] == 4001

    visiting(run, serve, visit)


@SERVERS
@pytest.mark.parametrize(("offered", "chosen"), [(["a", "b"], "b"), (["a"], None), (None, None)])
def test_a_subprotocol_is_agreed_on_or_there_is_none(run, serve, offered, chosen):
    async def visit(ws, _heard):
        assert ws.subprotocol == chosen

    visiting(run, serve, visit, subprotocols=offered)


@SERVERS
def test_ten_connections_echo_at_once(run, serve):
    async def main():
        async with serve([]) as port:

            async def one(n):
                async with fastws.connect(f"ws://127.0.0.1:{port}/") as ws:
                    for i in range(20):
                        await ws.send(f"{n} {i}")
                        assert await ws.recv() == f"{n} {i}"

            await asyncio.gather(*map(one, range(10)))
        await asyncio.sleep(0)

    run(main)
