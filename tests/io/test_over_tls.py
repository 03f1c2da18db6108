"""Tests that run over TLS do, whatever they connect with; and those that do not, do not."""

import asyncio

import pytest
import websockets
from peers import Echo, masked, port_of
from wire import TEXT, deaf, opened, read_frame, serve

import fastws

ciphers = []


class Noting(Echo):
    def on_open(self, ws):
        ciphers.append(ws.get_extra_info("cipher"))


async def with_streams(server):
    async with opened(server) as (reader, writer):
        writer.write(masked(TEXT, b"hi"))
        return await read_frame(reader) == (TEXT, b"hi")


async def with_a_bare_socket(server):
    loop = asyncio.get_running_loop()
    async with deaf(server) as peer:
        await loop.sock_sendall(peer, masked(TEXT, b"hi"))
        return await loop.sock_recv(peer, 100) == b"\x81\x02hi"


async def with_a_client_of_others(server):
    async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}", compression=None) as client:
        await client.send("hi")
        return await client.recv() == "hi"


async def with_our_client(server):
    async with fastws.connect(f"ws://127.0.0.1:{port_of(server)}", proxy=None) as client:
        assert (client.get_extra_info("cipher") is None) == (ciphers[-1] is None)
        await client.send("hi")
        return await client.recv() == "hi"


@pytest.mark.parametrize(
    "echoes", [with_streams, with_a_bare_socket, with_a_client_of_others, with_our_client]
)
def test_a_server_and_its_clients_speak_tls_where_the_parameter_says_so(run, request, echoes):
    ciphers.clear()

    async def main():
        async with serve(Noting) as server:
            assert await echoes(server)

    run(main)
    assert [cipher is not None for cipher in ciphers] == [
        request.node.callspec.params["run"].endswith("-tls")
    ]
