"""Interoperability: the clients that Python programs use, against `fastws.serve`."""

import asyncio
import struct

import aiohttp
import picows
import pytest
import websockets
from peers import Echo, masked, port_of, raw, until

import fastws

pytestmark = pytest.mark.without_tls("clients by others bring TLS of their own, see test_tls")

MESSAGES = ["", "text", "é一😀" * 1000, b"", b"\x00\xff" * 500, "x" * 2**20, b"y" * 2**20]


class Talker(fastws.Handler):
    """Echoes; pings, and closes, when told to; notes what it heard in its server's lists."""

    def __init__(self, heard):
        self.heard = heard

    async def on_message(self, ws, message):
        if message == "ping me":
            # Not here: nothing is received for a connection while its callback runs.
            self.task = asyncio.create_task(self.ping(ws))
        elif message == "close me":
            ws.close(4001, "as you wish")
        else:
            ws.send(message)

    async def ping(self, ws):
        await (await ws.ping(b"ours"))
        ws.send("pong came")

    def on_ping(self, ws, data):
        self.heard.append(("ping", data))

    def on_close(self, ws, code, reason):
        self.heard.append((code, reason))


class WebsocketsClient:
    """The `websockets` library."""

    def __init__(self, url, subprotocols=None):
        self.opening = websockets.connect(url, subprotocols=subprotocols, max_size=None)

    async def __aenter__(self):
        self.socket = await self.opening.__aenter__()
        self.send, self.recv = self.socket.send, self.socket.recv
        self.subprotocol = self.socket.subprotocol
        return self

    async def __aexit__(self, *exception):
        await self.opening.__aexit__(*exception)

    async def ping(self, data):
        await (await self.socket.ping(data))

    async def close(self, code, reason):
        await self.socket.close(code, reason)

    async def closed(self):
        await self.socket.wait_closed()
        return self.socket.close_code, self.socket.close_reason

    async def send_fragments(self, *fragments):
        await self.socket.send(fragments)


class AiohttpClient:
    """The `aiohttp` library."""

    def __init__(self, url, subprotocols=None):
        self.url, self.subprotocols = url, subprotocols or ()

    async def __aenter__(self):
        self.session = aiohttp.ClientSession()
        self.socket = await self.session.ws_connect(
            self.url, protocols=self.subprotocols, autoping=False, max_msg_size=0
        )
        self.subprotocol = self.socket.protocol
        return self

    async def __aexit__(self, *_exception):
        await self.socket.close()
        await self.session.close()

    async def send(self, message):
        await (self.socket.send_str if isinstance(message, str) else self.socket.send_bytes)(message)

    async def recv(self):
        while (message := await self.socket.receive()).type is aiohttp.WSMsgType.PING:
            await self.socket.pong(message.data)
        return message.data

    async def ping(self, data):
        await self.socket.ping(data)
        message = await self.socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, data)

    async def close(self, code, reason):
        await self.socket.close(code=code, message=reason.encode())

    async def closed(self):
        message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE
        return message.data, message.extra


class PicowsClient(picows.WSListener):
    """The `picows` library, which hands out frames."""

    def __init__(self, url, subprotocols=None):
        self.url = url
        self.headers = {"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else {}
        self.messages, self.pongs = asyncio.Queue(), asyncio.Queue()
        self.close_frame = None

    def on_ws_frame(self, transport, frame):
        kind = frame.msg_type
        if kind == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == picows.WSMsgType.PONG:
            self.pongs.put_nowait(frame.get_payload_as_bytes())
        elif kind == picows.WSMsgType.CLOSE:
            self.close_frame = (frame.get_close_code(), bytes(frame.get_close_message()).decode())
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            assert frame.fin
            text = kind == picows.WSMsgType.TEXT
            self.messages.put_nowait(
                frame.get_payload_as_utf8_text() if text else frame.get_payload_as_bytes()
            )

    async def __aenter__(self):
        self.transport, _ = await picows.ws_connect(lambda: self, self.url, extra_headers=self.headers)
        self.recv = self.messages.get
        self.subprotocol = self.transport.response.headers.get("Sec-WebSocket-Protocol")
        return self

    async def __aexit__(self, *_exception):
        self.transport.disconnect()
        await self.transport.wait_disconnected()

    async def send(self, message):
        kind = picows.WSMsgType.TEXT if isinstance(message, str) else picows.WSMsgType.BINARY
        self.transport.send(kind, message.encode() if isinstance(message, str) else message)

    async def send_fragments(self, *fragments):
        kind = picows.WSMsgType.TEXT if isinstance(fragments[0], str) else picows.WSMsgType.BINARY
        for i, fragment in enumerate(fragments):
            data = fragment.encode() if isinstance(fragment, str) else fragment
            self.transport.send(kind, data, fin=i == len(fragments) - 1)
            kind = picows.WSMsgType.CONTINUATION

    async def ping(self, data):
        self.transport.send_ping(data)
        assert await self.pongs.get() == data

    async def close(self, code, reason):
        self.transport.send_close(code, reason.encode())
        await self.transport.wait_disconnected()

    async def closed(self):
        await self.transport.wait_disconnected()
        code, reason = self.close_frame
        return int(code), reason


CLIENTS = pytest.mark.parametrize("connect", [WebsocketsClient, AiohttpClient, PicowsClient])


def meeting(run, connect, talk, offered=None, **options):
    """Run `talk(client, heard)` with a client and what the server's handler hears."""
    heard = []

    async def main():
        async with fastws.serve(lambda: Talker(heard), "127.0.0.1", 0, **options) as server:
            async with connect(f"ws://127.0.0.1:{port_of(server)}/", offered) as client:
                await talk(client, heard)
            await until(lambda: not server.connections)

    run(main)
    return heard


@CLIENTS
def test_messages_come_back_as_what_they_were(run, connect):
    async def talk(client, _heard):
        for message in MESSAGES:
            await client.send(message)
            assert await client.recv() == message

    meeting(run, connect, talk)


@CLIENTS
def test_many_messages_come_back_in_order(run, connect):
    async def talk(client, _heard):
        sent = [str(i) * (i % 50) for i in range(300)]
        for message in sent:
            await client.send(message)
        assert [await client.recv() for _ in sent] == sent

    meeting(run, connect, talk)


@pytest.mark.parametrize("connect", [WebsocketsClient, PicowsClient])
def test_fragments_are_one_message(run, connect):
    async def talk(client, _heard):
        await client.send_fragments("one, ", "", "é一", "😀")
        assert await client.recv() == "one, é一😀"
        await client.send_fragments(b"\x00", b"\xff" * 70_000)
        assert await client.recv() == b"\x00" + b"\xff" * 70_000

    meeting(run, connect, talk)


@CLIENTS
def test_f17_a_ping_of_the_client_is_answered(run, connect):
    async def talk(client, heard):
        await client.ping(b"theirs")
        await client.ping(b"")
        assert heard == [("ping", b"theirs"), ("ping", b"")]

    meeting(run, connect, talk)


@CLIENTS
def test_the_client_answers_a_ping_of_the_server(run, connect):
    async def talk(client, _heard):
        await client.send("ping me")
        assert await client.recv() == "pong came"

    meeting(run, connect, talk)


@CLIENTS
def test_f22_the_client_closes_with_code_and_reason(run, connect):
    async def talk(client, heard):
        await client.send("x")
        assert await client.recv() == "x"
        await client.close(3999, "enough, é")
        await until(lambda: heard)

    assert meeting(run, connect, talk) == [(3999, "enough, é")]


@CLIENTS
def test_the_server_closes_with_code_and_reason(run, connect):
    async def talk(client, heard):
        await client.send("close me")
        assert await client.closed() == (4001, "as you wish")

    # Not every library echoes the code, which RFC 6455 5.5.1 says is typical.
    ((code, _),) = meeting(run, connect, talk)
    assert code in (4001, 1000)


@CLIENTS
def test_the_best_subprotocol_is_agreed_on(run, connect):
    async def talk(client, _heard):
        assert client.subprotocol == "b"

    meeting(run, connect, talk, offered=["a", "b", "c"], subprotocols=["d", "b", "a"])


def test_fragments_in_the_hands_of_a_plain_client(run):
    # aiohttp's client has no way to send fragments.
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server, raw(server) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(masked(0x01, b"a") + masked(0x00, b"b") + masked(0x80, b"c"))
            assert await reader.readexactly(5) == b"\x81\x03abc"
            writer.write(masked(0x88, struct.pack("!H", 1000)))
            assert await reader.read() == b"\x88\x02\x03\xe8"

    run(main)
