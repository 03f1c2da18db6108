"""Interoperability with node: `fastws.serve` with clients of its `ws`, `fastws.connect` with its server."""

import asyncio
import base64
import contextlib
import functools
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from peers import echo, port_of, until

import fastws

pytestmark = pytest.mark.without_tls("the program in Node speaks no TLS here")

ROOT = pathlib.Path(__file__).parents[2]
HOME = ROOT / "build" / "node"
PEER = pathlib.Path(__file__).parent / "node" / "peer.js"
VERSION = "ws@8"
MESSAGES = ["", "text", "é一😀" * 1000, b"", b"\x00\xff" * 500]


@functools.cache
def missing():
    """Install `ws` if need be; return what is missing, None if nothing is."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"there is no {program}: these tests need node and npm (Debian: nodejs, npm)"
    if not (HOME / "node_modules" / "ws" / "package.json").exists():
        HOME.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(HOME), VERSION]
        try:
            subprocess.run(command, cwd=HOME, check=True, capture_output=True, text=True, timeout=300)
        except subprocess.SubprocessError as error:
            told = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
            return f"`{' '.join(command)}` fails; these tests need it once, and the network for it: {told}"
    return None


@pytest.fixture(autouse=True)
def node():
    """Fail, rather than skip, where there is no node with `ws`."""
    why = missing()
    if why is not None:
        pytest.fail(why, pytrace=False)


@contextlib.asynccontextmanager
async def running(mode, deflate=None):
    """Run the node peer, and give its process; `deflate` is its perMessageDeflate."""
    process = await asyncio.create_subprocess_exec(
        shutil.which("node"),
        str(PEER),
        mode,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**23,  # a line tells of whole messages
        env={
            **os.environ,
            "NODE_PATH": str(HOME / "node_modules"),
            "DEFLATE": "" if deflate is None else json.dumps(deflate),
        },
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def encoded(data):
    return base64.b64encode(data).decode()


def as_said(message):
    """Return a message as the node peer tells of it."""
    return {"text": message} if isinstance(message, str) else {"binary": encoded(message)}


# ---- node's client


async def talk(server, steps, offered=(), deflate=None):
    """Let a node client do the steps; return how it was accepted, and what it saw."""
    told = json.dumps([f"ws://127.0.0.1:{port_of(server)}/", list(offered), steps])
    async with running("connect", deflate) as process:
        process.stdin.write(told.encode())
        process.stdin.close()
        line = await process.stdout.readline()
    assert line, "the node client failed; its output says why"
    accepted, *seen = json.loads(line)
    return accepted, seen


def with_client(run, handler, steps, offered=(), deflate=None, **options):
    """Return what a node client saw of a handler."""
    result = []

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0, **options) as server:
            result.append(await talk(server, steps, offered, deflate))
            await until(lambda: not server.connections)

    run(main)
    return result[0]


def test_a_node_client_gets_messages_back_as_what_they_were(run):
    steps = []
    for message in MESSAGES:
        steps.append(["text", message] if isinstance(message, str) else ["binary", encoded(message)])
        steps.append(["wait", "message"])
    accepted, seen = with_client(run, echo, steps)
    assert seen == [as_said(message) for message in MESSAGES]
    # It offers compression, which is not switched on, and goes on without.
    assert accepted["extensions"] == ""


@pytest.mark.parametrize("message", ["x" * 2**20, b"\xff" * 2**20], ids=["text", "binary"])
def test_a_node_client_sends_a_mebibyte_and_gets_it_back(run, message):
    step = ["text", message] if isinstance(message, str) else ["binary", encoded(message)]
    _, seen = with_client(run, echo, [step, ["wait", "message"]])
    assert seen == [as_said(message)]


def test_a_node_client_sends_fragments_that_are_one_message(run):
    text, binary = ["one, ", "", "é一", "😀"], [b"\x00", b"\xff" * 70_000]
    steps = [
        ["fragments", text],
        ["wait", "message"],
        ["fragments", [{"binary": encoded(fragment)} for fragment in binary]],
        ["wait", "message"],
    ]
    _, seen = with_client(run, echo, steps)
    assert seen == [as_said("".join(text)), as_said(b"".join(binary))]


def test_a_node_client_takes_fragments_as_one_message(run):
    async def handler(ws):
        await ws.send(["one, ", "", "é一", "😀"])
        await ws.send([b"\x00", b"\xff" * 70_000])
        await ws.wait_closed()

    _, seen = with_client(run, handler, [["wait", "message"], ["wait", "message"]])
    assert seen == [as_said("one, é一😀"), as_said(b"\x00" + b"\xff" * 70_000)]


def test_f17_a_ping_of_a_node_client_is_answered(run):
    _, seen = with_client(run, echo, [["ping", "theirs"], ["wait", "pong"], ["ping", ""], ["wait", "pong"]])
    assert seen == [{"pong": "theirs"}, {"pong": ""}]


def test_a_node_client_answers_a_ping(run):
    latencies = []

    async def handler(ws):
        latencies.append(await (await ws.ping("ours")))
        await ws.send("pong came")

    _, seen = with_client(run, handler, [["wait", "ping"], ["wait", "message"]])
    assert seen == [{"ping": "ours"}, {"text": "pong came"}]
    assert latencies[0] > 0


def test_f22_a_node_client_closes_with_code_and_reason(run):
    ends = []

    async def handler(ws):
        with contextlib.suppress(fastws.ConnectionClosed):
            await ws.recv()
        ends.append((ws.close_code, ws.close_reason))

    _, seen = with_client(run, handler, [["close", [3999, "enough, é"]], ["wait", "close"]])
    assert ends == [(3999, "enough, é")]
    assert seen[0]["close"][0] == 3999  # node's own end of it: what we echo


def test_a_handler_closes_a_node_client_with_code_and_reason(run):
    async def handler(ws):
        await ws.close(4001, "as you wish, é")
        assert ws.close_code == 4001  # what it echoes

    _, seen = with_client(run, handler, [["wait", "close"]])
    assert seen == [{"close": [4001, "as you wish, é"]}]


def test_a_node_client_and_a_server_agree_on_the_best_subprotocol(run):
    accepted, _ = with_client(run, echo, [], ["a", "b", "c"], subprotocols=["d", "b", "a"])
    assert accepted["protocol"] == "b"


# ---- node's server


class NodeServer:
    """What a node server says; see peer.js."""

    def __init__(self, process, port):
        self.process = process
        self.uri = f"ws://127.0.0.1:{port}/"

    async def said(self):
        return json.loads(await self.process.stdout.readline())


def with_server(run, visit, deflate=None, **options):
    """Run `visit(ws, node)` with a connection to a node server."""

    async def main():
        async with running("serve", deflate) as process:
            node = NodeServer(process, json.loads(await process.stdout.readline())["port"])
            async with fastws.connect(node.uri, **options) as ws:
                await visit(ws, node)

    run(main)


def test_a_node_server_gives_messages_back_as_what_they_were(run):
    async def visit(ws, _node):
        for message in [*MESSAGES, "x" * 2**20, b"\xff" * 2**20]:
            await ws.send(message)
            assert await ws.recv() == message
        assert ws.response.headers.get("Sec-WebSocket-Extensions") is None

    with_server(run, visit)


def test_many_messages_come_back_from_a_node_server_in_order(run):
    async def visit(ws, _node):
        sent = [str(i) * (i % 50) for i in range(300)]
        for message in sent:
            await ws.send(message)
        assert [await ws.recv() for _ in sent] == sent

    with_server(run, visit)


def test_a_node_server_takes_fragments_as_one_message(run):
    async def visit(ws, _node):
        await ws.send(["one, ", "", "é一", "😀"])
        assert await ws.recv() == "one, é一😀"
        await ws.send(iter([b"\x00", b"\xff" * 70_000]))
        assert await ws.recv() == b"\x00" + b"\xff" * 70_000

    with_server(run, visit)


def test_fragments_of_a_node_server_are_one_message(run):
    async def visit(ws, _node):
        await ws.send("fragments")
        assert await ws.recv() == "one, é一😀"
        assert await ws.recv() == b"\x00" + b"\xff" * 70_000
        await ws.send("fragments")
        assert "".join([fragment async for fragment in ws.recv_streaming()]) == "one, é一😀"
        assert len(b"".join([fragment async for fragment in ws.recv_streaming()])) == 70_001

    with_server(run, visit)


def test_a_node_server_answers_a_ping(run):
    async def visit(ws, node):
        assert await (await ws.ping("theirs")) > 0
        assert await node.said() == {"ping": "theirs"}

    with_server(run, visit)


def test_a_ping_of_a_node_server_is_answered(run):
    async def visit(ws, _node):
        await ws.send("ping me")
        assert await ws.recv() == "pong came: ours"

    with_server(run, visit)


def test_a_node_server_hears_code_and_reason(run):
    async def visit(ws, node):
        await ws.close(3999, "enough, é")
        assert await node.said() == {"close": [3999, "enough, é"]}
        assert ws.close_code == 3999  # what it echoes

    with_server(run, visit)


def test_a_node_server_closes_with_code_and_reason(run):
    async def visit(ws, node):
        await ws.send("close me")
        with pytest.raises(fastws.ConnectionClosedError) as caught:
            await ws.recv()
        assert caught.value.rcvd == fastws.Close(4001, "as you wish, é")
        assert (await node.said())["close"][0] == 4001

    with_server(run, visit)


@pytest.mark.parametrize(("offered", "chosen"), [(["a", "b"], "b"), (["a"], None), (None, None)])
def test_a_node_server_and_a_client_agree_on_a_subprotocol(run, offered, chosen):
    async def visit(ws, _node):
        assert ws.subprotocol == chosen

    with_server(run, visit, subprotocols=offered)


# ---- compression

NODES = {
    "default": {"threshold": 0},
    "forgetful": {"threshold": 0, "serverNoContextTakeover": True, "clientNoContextTakeover": True},
    "small": {"threshold": 0, "serverMaxWindowBits": 10, "clientMaxWindowBits": 9},
}
OURS = {
    "shared": fastws.Deflate(min_size=0),
    "dedicated": fastws.Deflate(shared=False, min_size=0),
    "dedicated-small": fastws.Deflate(shared=False, min_size=0, client_max_window_bits=9),
}
# Each refers to those before, where it may.
COMPRESSIBLE = [*MESSAGES, "é一😀" * 1000, b"\x00\xff" * 500, "é一😀" * 3000, bytes(range(256)) * 300, "end"]


@pytest.mark.parametrize("deflate", NODES.values(), ids=NODES)
@pytest.mark.parametrize("compression", OURS.values(), ids=OURS)
def test_a_node_client_and_a_server_compress_both_ways(run, compression, deflate):
    texts, binary = ["one, ", "", "é一", "😀" * 500], [b"\x00", b"\xff" * 70_000]
    steps = []
    for message in COMPRESSIBLE * 2:
        steps.append(["text", message] if isinstance(message, str) else ["binary", encoded(message)])
        steps.append(["wait", "message"])
    for fragments in (texts, [{"binary": encoded(fragment)} for fragment in binary]):
        steps += [["fragments", fragments], ["wait", "message"]]
    accepted, seen = with_client(run, echo, steps, deflate=deflate, compression=compression)
    assert "permessage-deflate" in accepted["extensions"]
    assert seen == [as_said(message) for message in [*COMPRESSIBLE * 2, "".join(texts), b"".join(binary)]]


@pytest.mark.parametrize("deflate", NODES.values(), ids=NODES)
@pytest.mark.parametrize("compression", OURS.values(), ids=OURS)
def test_a_node_server_and_a_client_compress_both_ways(run, compression, deflate):
    async def visit(ws, _node):
        assert ws.extensions.startswith("permessage-deflate")
        for message in COMPRESSIBLE * 2:
            await ws.send(message)
            assert await ws.recv() == message
        for message in COMPRESSIBLE:
            await ws.send(message)
        assert [await ws.recv() for _ in COMPRESSIBLE] == COMPRESSIBLE
        await ws.send(["one, ", "", "é一" * 500])
        assert await ws.recv() == "one, " + "é一" * 500
        await ws.send("fragments")
        assert await ws.recv() == "one, é一😀"
        assert await ws.recv() == b"\x00" + b"\xff" * 70_000

    with_server(run, visit, deflate, compression=compression)
