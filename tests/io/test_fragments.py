"""Messages in fragments, sent from iterables and taken as they come, RFC 6455 5.4."""

import asyncio

import pytest
from peers import masked, raw, served, until

import fastws


def test_r18_a_message_in_fragments_is_not_interrupted(run):
    async def handler(ws):
        go = asyncio.Event()

        async def fragments():
            yield "a"
            go.set()
            for _ in range(20):
                await asyncio.sleep(0)
                yield "b"

        sending = asyncio.ensure_future(ws.send(fragments()))
        await go.wait()
        ws.send("between")  # as a callback would, without waiting
        later = asyncio.ensure_future(ws.send(["c", "d"]))
        ping = await ws.ping()
        await sending
        await later
        assert await ping > 0

    async def main():
        async with served(handler) as (_, client):
            assert [await client.recv() for _ in range(3)] == ["a" + 20 * "b", "between", "cd"]

    run(main)


@pytest.mark.parametrize("fragments", [["a", b"b"], [1], ["a", None]], ids=repr)
@pytest.mark.parametrize("generated", [False, True])
def test_fragments_of_different_types_are_a_type_error(run, fragments, generated):
    # Of a list nothing is sent; what a generator began cannot be ended.
    unfinished = generated and fragments != [1]

    async def handler(ws):
        with pytest.raises(TypeError):
            await ws.send((f for f in fragments) if generated else fragments)
        assert ws.state is (fastws.State.CLOSING if unfinished else fastws.State.OPEN)

    async def main():
        async with served(handler) as (_, client):
            await client.wait_closed()
            assert client.close_code == (1011 if unfinished else 1000)

    run(main)


def test_no_fragment_is_no_message_and_a_mapping_is_refused(run):
    async def handler(ws):
        await ws.send([])
        with pytest.raises(TypeError, match="keys"):
            ws.send({"a": 1})
        await ws.send("end")

    async def main():
        async with served(handler) as (_, client):
            assert await client.recv() == "end"

    run(main)


def test_recv_streaming_gives_fragments_as_they_come(run):
    got = []

    async def handler(ws):
        async for fragment in ws.recv_streaming():
            got.append(fragment)
            ws.send(str(len(got)))
        got.append(await ws.recv())

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server, raw(server) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            euro = "€".encode()
            for piece in (masked(0x01, b"one" + euro[:2]), masked(0x00, euro[2:]), masked(0x80, b"three")):
                writer.write(piece)
                await reader.readexactly(3)
            writer.write(masked(0x81, b"whole"))
            await until(lambda: len(got) == 4)

    run(main)
    assert got == ["one", "€", "three", "whole"]


def test_what_is_left_of_a_streamed_message_is_passed_over(run):
    got = []

    async def handler(ws):
        stream = ws.recv_streaming()
        got.append(await stream.__anext__())
        await stream.aclose()
        ws.send("ok")
        got.append(await ws.recv())

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server, raw(server) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(masked(0x01, b"a") + masked(0x00, b"b"))
            await reader.readexactly(4)
            writer.write(masked(0x00, b"c") + masked(0x80, b"d") + masked(0x82, b"next"))
            await until(lambda: len(got) == 2)

    run(main)
    assert got == ["a", b"next"]
