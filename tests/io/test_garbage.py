"""A live server under garbage, beside a client that behaves: tests/fuzz/fuzz_server.py for a second a loop.

What must hold is said there; `make fuzz` goes on for longer, and with other seeds. Below are the
cases that it found.
"""

import asyncio
import sys
from pathlib import Path

import pytest
import websockets
from peers import masked, port_of, raw

import fastws

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import fuzz_server


@pytest.mark.parametrize("loop", fuzz_server.LOOPS)
def test_r12_r20_garbage_and_resets_while_handlers_do_anything_cost_only_their_own_connections(loop):
    done = fuzz_server.check(1, 0.8, loop).done
    # It was a storm, and not a calm day.
    assert min(done["handshakes"], done["opened"], done["fail"], done["echoes"]) > 0, done


def test_r5_a_send_over_the_write_limit_ends_when_all_of_it_leaves_at_once(run):
    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    async def main():
        async with (
            fastws.serve(echo, "127.0.0.1", 0, write_limit=1000) as server,
            websockets.connect(f"ws://127.0.0.1:{port_of(server)}", compression=None) as client,
        ):
            for size in (2000, 10):
                await client.send(b"x" * size)
                assert len(await asyncio.wait_for(client.recv(), 2)) == size

    run(main)


FRAGMENTED = masked(0x01, b"c1") + masked(0x80, b"c2")


@pytest.mark.parametrize(
    ("stream", "behind"),
    [
        (masked(0x81, b"a") + masked(0x81, b"b") + FRAGMENTED, ["b", "c1c2"]),
        (masked(0x81, b"a") + FRAGMENTED + masked(0x81, b"b"), ["c1c2", "b"]),
    ],
    ids=["after another", "at once"],
)
def test_a_fragmented_message_behind_one_that_was_streamed_is_received_whole(run, stream, behind):
    async def main():
        got = asyncio.get_running_loop().create_future()

        async def handler(ws):
            received = [[fragment async for fragment in ws.recv_streaming()]]
            try:
                while len(received) < 3:
                    received.append(await asyncio.wait_for(ws.recv(), 1))
            except asyncio.TimeoutError:
                received.append("nothing more")
            got.set_result(received)

        async with fastws.serve(handler, "127.0.0.1", 0) as server, raw(server) as (reader, writer):
            # By then the handler waits in recv_streaming, so that all three come while it does.
            await reader.readuntil(b"\r\n\r\n")
            writer.write(stream)
            assert await got == [["a"], *behind]

    run(main)
