"""
Invariant: whatever a server says, a load neither crashes nor hangs: a step takes the time that it was
given, each connection is open, lost with an error that is counted once, or in a storm begun anew, and when
it is closed no descriptor stays. What became of its memory, the sanitizers tell.

Runs for FUZZ_SECONDS (30), in rounds. A round that fails tells its seed; give that as an argument to run it
again. What a server says follows from the seed; when it gets to it, not quite.
"""

import asyncio
import gc
import logging
import os
import random
import struct
import sys
import time
import zlib

import harness

harness.use("io")


import certificates  # noqa: E402
import loading  # noqa: E402

from fastws._load import LoadError  # noqa: E402

ROUND = 0.6  # seconds of one load
GRACE = (
    5.0  # seconds that a step may take longer, with the sanitizers on a machine that does something else too
)
FIRST = (0x01, 0x02, 0x00, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A, 0x09, 0x41, 0xC1, 0xC2, 0x42, 0xC0, 0x93, 0x8F)


def some_frame(chance):
    data = loading.frame(
        chance.choice(FIRST), chance.randbytes(chance.choice((0, 1, 2, 5, 64, 125, 126, 70_000)))
    )
    if chance.random() < 0.3:
        at = chance.randrange(min(len(data), 12))
        data = data[:at] + chance.randbytes(1) + data[at + 1 :]
    return data[: chance.randrange(len(data) + 1)] if chance.random() < 0.2 else data


def compressed(chance, payload):
    deflate = zlib.compressobj(chance.choice((0, 1, 9)), zlib.DEFLATED, -chance.randint(9, 15))
    return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def answer(chance, first, payload):
    """Return something that is right, in one of the many forms that are."""
    if first & 0x40:
        plain = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
        first, payload = (
            (first, compressed(chance, plain)) if chance.random() < 0.8 else (first & ~0x40, plain)
        )
    if chance.random() < 0.6:
        return loading.frame(first, payload)
    cuts = sorted(chance.randint(0, len(payload)) for _ in range(chance.randint(1, 3)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    data = loading.frame(first & 0x7F, parts[0])
    for part in parts[1:-1]:
        data += loading.frame(0x89, b"ping") * chance.randint(0, 3) + loading.frame(0, part)
    return data + loading.frame(0x80, parts[-1])


async def message(reader):
    """Return the first byte, and the payload, of a message, whose fragments are put together."""
    first, payload = await loading.read_message(reader)
    final = first & 0x80
    while not final:
        more, part = await loading.read_message(reader)
        final, payload = more & 0x80, payload + part
    return first | 0x80, payload


def server(chance, fanout, tls, deflate):
    """A server that is mostly right, but seldom for long."""
    writers = set()
    wrong = chance.choice((0.0, 0.001, 0.02, 0.3))

    async def script(reader, writer):
        writers.add(writer)
        try:
            while True:
                first, payload = await message(reader)
                if first & 0x0F >= 8:
                    continue
                data = answer(chance, first, payload)
                if chance.random() < wrong:
                    fate = chance.randrange(6)
                    if fate == 0:
                        return
                    if fate == 1:
                        writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
                        writer.transport.abort()
                    elif fate == 2:
                        data = data[: chance.randrange(len(data) + 1)]
                    elif fate == 3:
                        data = b"".join(some_frame(chance) for _ in range(chance.randint(1, 5)))
                    elif fate == 4:
                        data = loading.frame(0x89, b"x" * 125) * 100 + data
                    else:
                        data = data * 3
                for one in list(writers) if fanout else [writer]:
                    one.write(data)
                await writer.drain()
        finally:
            writers.discard(writer)

    def respond(head):
        more = (
            b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
            if deflate
            else b""
        )
        data = loading.response_to(head, more)
        if chance.random() < wrong:
            at = chance.randrange(len(data))
            data = data[:at] + chance.randbytes(chance.randint(0, 3)) + data[at + 1 :]
        return data + (some_frame(chance) if chance.random() < wrong / 4 else b"")

    context = certificates.server_context("localhost") if tls and chance.random() < 0.9 else None
    return loading.by_hand(script, respond, **({"ssl": context} if context else {}))


def some_plan(chance):
    mode = chance.choice(("echo", "echo", "echo", "fanout", "fanout", "storm", "idle"))
    connections = chance.randint(1, 20)
    plan = {
        "mode": mode,
        "connections": connections,
        "in_flight": chance.choice((1, 1, 2, 7, 50)),
        "kind": chance.choice(("binary", "text", "utf8", "ticker")),
        "sizes": [
            (chance.choice((128, 300, 5000, 70_000)), chance.random() + 0.1)
            for _ in range(chance.randint(1, 3))
        ],
        "fragments": chance.choice((1, 1, 3)),
        "deflate": chance.random() < 0.4,
        "tls": chance.random() < 0.3,
        "insecure": True,
        "expected": chance.choice(("echo", "echo", "any")),
        "ramp": chance.choice((0, 0, 0.1)),
        "sources": chance.choice((1, 5)),
        "strict": chance.random() < 0.1,
        "seed": chance.randrange(1000),
        "timeout": 0.1,
    }
    if mode in ("echo", "fanout") and chance.random() < 0.4:
        plan["rate"] = chance.choice((10.0, 1000.0, 100_000.0))
    if mode == "fanout" and connections > 3 and chance.random() < 0.3:
        plan["stuck"] = 2
    return plan


def run(chance, port, plan):
    """Load `port` by the plan; return how many connections were lost."""
    load, lost, started = loading.loading(port, **plan), 0, False
    end = time.monotonic() + ROUND
    try:
        while (began := time.monotonic()) < end and (lost < plan["connections"] or plan["mode"] == "storm"):
            load.step(0.02)
            assert time.monotonic() - began < GRACE
            sample = load.take()
            lost += sum(sample.errors.values())
            assert lost + sample.connections <= plan["connections"] or plan["mode"] == "storm", (
                lost,
                vars(sample),
            )
            if not started and load.opened() + lost == plan["connections"] and load.opened():
                load.start()
                started = True
        if chance.random() < 0.5:
            load.stop()
            load.step(0.02)
    except LoadError as error:
        # Strict, or started while stuck connections were being filled.
        assert plan["strict"] or "stuck" in str(error) or "not open yet" in str(error), error
    began = time.monotonic()
    load.close()
    assert time.monotonic() - began < 2 + GRACE
    return lost


def one_round(seed):
    chance = random.Random(seed)
    plan = some_plan(chance)
    before = len(os.listdir("/proc/self/fd"))
    with server(chance, plan["mode"] == "fanout", plan["tls"], plan["deflate"]) as shared:
        lost = run(chance, shared.port, plan)
    gc.collect()  # what the server's loop left behind
    assert len(os.listdir("/proc/self/fd")) <= before
    return lost


def main():
    if len(sys.argv) > 1:
        print(one_round(int(sys.argv[1])), "connections lost")
        return
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    end, rounds, lost, seed = time.monotonic() + harness.SECONDS, 0, 0, random.randrange(10**9)
    asyncio.run(asyncio.sleep(0))  # what a first loop opens and keeps
    while time.monotonic() < end:
        try:
            lost += one_round(seed + rounds)
        except BaseException:
            print("seed", seed + rounds, file=sys.stderr)
            raise
        rounds += 1
    print(rounds, "rounds,", lost, "connections lost")


if __name__ == "__main__":
    main()
