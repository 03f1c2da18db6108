"""A message compressed for permessage-deflate without context takeover: fastws's compressor and zlib.

zlib as others use it: one object for a connection cannot start afresh, and one for each message is
an allocation of 256 KiB; what Python has of a reset is copy(), of a compressor that has seen nothing.
The price of the Python calls is in each figure.
"""

import json
import random
import zlib

import pytest

from fastws import _kernels

from .payloads import ascii_text, random_bytes


def ticker(size):
    rng = random.Random(size)
    rows = [
        {
            "symbol": rng.choice(["BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "ADA-USD", "EUR-USD"]),
            "price": f"{rng.uniform(1, 99999):.2f}",
            "size": f"{rng.expovariate(1):.4f}",
            "side": rng.choice(["buy", "sell"]),
            "time": 1732190400000 + i,
            "id": 9000000 + i,
        }
        for i in range(size // 80 + 1)
    ]
    return json.dumps({"type": "trades", "data": rows}, separators=(",", ":")).encode()[:size]


KINDS = {"ticker": ticker, "repeated": ascii_text, "random": random_bytes}


def fastws(message):
    return _kernels.deflate(message)


def of_zlib(level, mem_level):
    fresh = zlib.compressobj(level, wbits=-15, memLevel=mem_level)

    def compress(message):
        stream = fresh.copy()
        return (stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]

    return compress


COMPRESSORS = {"fastws": fastws, "zlib-1": of_zlib(1, 5), "zlib-6": of_zlib(6, 8)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [64, 256, 1024, 4096, 64 * 1024])
@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_deflate(benchmark, compressor, size, kind):
    benchmark.group = f"deflate {kind} {size}"
    message = KINDS[kind](size)
    compressed = benchmark(COMPRESSORS[compressor], message)
    benchmark.extra_info["compressed"] = len(compressed)
    assert zlib.decompressobj(-15).decompress(compressed + b"\x00\x00\xff\xff") == message
