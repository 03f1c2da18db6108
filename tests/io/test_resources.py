"""What the system gives out and takes away, on a server in a process of its own."""

import contextlib
import os
import select
import signal
import socket
import time

import pytest
from peers import LIMIT
from wire import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    connect,
    cpu_used,
    frame,
    read_exactly,
    read_head,
    reset,
    serving,
)

# Prints its port when it serves, on either loop. `options` and `prepare(server)` come before it.
PROGRAM = """
import asyncio, gc, os, resource, sys
import fastws, uvloop

def prepare(server):
    pass

options = dict(on_message=lambda ws, m: ws.send(m), ping_interval=None)

{}

async def main():
    async with fastws.serve(host="127.0.0.1", port=0, **options) as server:
        prepare(server)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

loop = {}.new_event_loop()
loop.set_exception_handler(lambda loop, context: print("unheard", context, file=sys.stderr))
loop.run_until_complete(main())
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def served(request):
    """Serve with some lines of a program, on each loop."""
    return lambda lines: serving(PROGRAM.format(lines, request.param))


def is_open(peer):
    """Tell whether a message comes back."""
    peer.sendall(frame(TEXT, b"hi"))
    return read_exactly(peer, 4) == b"\x81\x02hi"


FEW_DESCRIPTORS = """
def prepare(server):
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, used + 3))

options["max_connections"] = 100
"""


def test_r10_no_descriptors_left_is_survived_without_spinning(served):
    with served(FEW_DESCRIPTORS) as process, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connect(process)) for _ in range(8)]
        waiting = []
        for peer in peers:
            if select.select([peer], [], [], 0 if waiting else LIMIT if peer is peers[0] else 0.2)[0]:
                read_head(peer)
            else:
                waiting.append(peer)
        # One descriptor less than there are went to listdir().
        assert 4 <= len(waiting) <= 6
        assert cpu_used(process, 0.5) < 0.1
        served_now = [peer for peer in peers if peer not in waiting]
        assert all(is_open(peer) for peer in served_now)
        for peer in served_now:
            peer.close()
        # As many as have left come in, then the next.
        for peer in waiting:
            assert read_head(peer).startswith(b"HTTP/1.1 101 ")
            assert is_open(peer)
            peer.close()
        with connect(process) as last:
            assert read_head(last).startswith(b"HTTP/1.1 101 ")


LITTLE_MEMORY = """
def prepare(server):
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + 64 * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

options["max_size"] = None
"""


def test_r31_no_memory_for_a_message_costs_its_connection_1011(served):
    with served(LITTLE_MEMORY) as process, connect(process) as good, connect(process) as bad:
        read_head(good)
        read_head(bad)
        piece = frame(0x00, b"x" * 512 * 1024) + frame(PING, b"")
        bad.sendall(frame(0x02, b""))
        for _ in range(256):
            # After each piece a pong, so that the server has it before the next leaves.
            bad.sendall(piece)
            first, size = read_exactly(bad, 2)
            if first == CLOSE:
                assert read_exactly(bad, size) == b"\x03\xf3internal error"
                break
            assert (first, size) == (PONG, 0)
        else:
            pytest.fail("128 MiB were taken where there is room for 64")
        assert bad.recv(1) == b""
        assert is_open(good)
        with connect(process) as other:
            read_head(other)
            assert is_open(other)


QUIET = """
def on_open(ws):
    if ws.request.path == "/paused":
        ws.pause_reading()
    elif ws.request.path == "/full":
        while ws.buffered_amount < 1_000_000:
            ws.send(b"x" * 100_000)
            ws.flush()

async def on_message(ws, message):
    if message != "hi":
        await asyncio.sleep(60)
    ws.send(message)

async def process_request(ws, request):
    if request.path == "/negotiating":
        await asyncio.sleep(60)

options.update(on_open=on_open, on_message=on_message, process_request=process_request)
"""


def nothing(peer):
    pass


def shut(peer):
    peer.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("path", [b"/", b"/paused", b"/full", b"/negotiating"])
@pytest.mark.parametrize("leave", [nothing, shut, reset, socket.socket.close])
def test_no_processor_time_goes_to_peers_that_wait_or_have_left(served, path, leave):
    with served(QUIET) as process, connect(process) as good, contextlib.ExitStack() as stack:
        read_head(good)
        for sent in (b"", frame(TEXT, b"busy") * 100, frame(BINARY, b"x" * 1000)[:500]):
            peer = stack.enter_context(connect(process, path))
            if path != b"/negotiating":
                read_head(peer)
            peer.sendall(sent)
            leave(peer)
        assert is_open(good)  # so that all of that has come
        assert cpu_used(process, 0.3) <= 0.05
        assert is_open(good)


FORKS = """
def on_message(ws, message):
    if message != "fork":
        return ws.send(message)
    others = ws.server.connections
    for name, end in dict(
        exit=lambda: None,
        abort=lambda: ws.abort(),
        close=lambda: ws.close(),
        server_abort=lambda: ws.server.abort(),
        server_close=lambda: ws.server.close(),
        collect=lambda: gc.collect(),
        send=lambda: ws.send("from the child"),
        broadcast=lambda: fastws.broadcast(others, "from the child"),
        pause=lambda: ws.pause_reading(),
        flush=lambda: ws.flush(),
    ).items():
        ws.send(name)
        child = os.fork()
        if child == 0:
            try:
                end()
            except fastws.ConnectionClosed:
                pass
            except BaseException as error:
                print(name, repr(error), file=sys.stderr, flush=True)
            os._exit(0)
        os.waitpid(child, 0)

options["on_message"] = on_message
"""
ENDS = [
    "exit",
    "abort",
    "close",
    "server_abort",
    "server_close",
    "collect",
    "send",
    "broadcast",
    "pause",
    "flush",
]


def test_a_forked_child_leaves_the_connections_of_its_parent_alone(served):
    with served(FORKS) as process, connect(process) as one, connect(process) as two:
        read_head(one)
        read_head(two)
        one.sendall(frame(TEXT, b"fork"))
        # What waits in the parent leaves once, from the parent.
        answer = b"".join(bytes([TEXT, len(name)]) + name.encode() for name in ENDS)
        assert read_exactly(one, len(answer)) == answer
        assert is_open(one)
        assert is_open(two)
        with connect(process) as three:
            read_head(three)
            assert is_open(three)
        process.kill()
        assert process.stderr.read() == ""


LIVING_CHILD = """
def on_message(ws, message):
    if message != "fork":
        return ws.send(message)
    child = os.fork()
    if child == 0:
        import time
        time.sleep(60)
        os._exit(0)
    ws.send(str(child))

options["on_message"] = on_message
"""


def test_a_child_that_lives_on_does_not_keep_connections_open(served):
    with served(LIVING_CHILD) as process, connect(process) as one:
        read_head(one)
        one.sendall(frame(TEXT, b"fork"))
        _, size = read_exactly(one, 2)
        child = int(read_exactly(one, size))
        try:
            one.sendall(frame(CLOSE, b"\x03\xe8"))
            assert read_exactly(one, 4) == b"\x88\x02\x03\xe8"
            assert one.recv(1) == b""
            with connect(process) as two:
                read_head(two)
                assert is_open(two)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_r26_a_second_signal_ends_at_once_what_the_first_waits_for(first):
    program = """
import fastws
fastws.run(
    on_message=lambda ws, m: ws.send(m), port=0, close_timeout=60,
    ready=lambda s: print(s.sockets[0].getsockname()[1], flush=True),
)
"""
    with serving(program) as process, connect(process) as peer:
        read_head(peer)
        process.send_signal(first)
        assert read_exactly(peer, 4) == b"\x88\x02\x03\xe9"
        # The peer never answers; the server waits for it, until told again.
        assert process.poll() is None
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
        assert time.monotonic() - begin < 5
        assert process.stderr.read() == ""


def test_r26_a_second_signal_cancels_callbacks_that_run():
    program = """
import asyncio, fastws

async def on_message(ws, message):
    print("running", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("cancelled", flush=True)

fastws.run(
    on_message=on_message, port=0, close_timeout=60,
    ready=lambda s: print(s.sockets[0].getsockname()[1], flush=True),
)
"""
    with serving(program) as process, connect(process) as peer:
        read_head(peer)
        peer.sendall(frame(TEXT, b"x"))
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGTERM)
        assert read_exactly(peer, 4) == b"\x88\x02\x03\xe9"
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
        assert process.stdout.read() == "cancelled\n"
