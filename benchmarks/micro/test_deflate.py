"""A message compressed for permessage-deflate without context takeover: fastws's compressor and zlib.

zlib as others use it: one object for a connection cannot start afresh, and one for each message is
an allocation of 256 KiB; what Python has of a reset is copy(), of a compressor that has seen nothing.
The price of the Python calls is in each figure.
"""

import zlib

import pytest

from fastws import _kernels

from .payloads import ascii_text, random_bytes, ticker

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
@pytest.mark.parametrize("library", COMPRESSORS)
def test_deflate(benchmark, library, size, kind):
    benchmark.group = f"deflate {kind} {size}"
    message = KINDS[kind](size)
    compressed = benchmark(COMPRESSORS[library], message)
    benchmark.extra_info["compressed"] = len(compressed)
    assert zlib.decompressobj(-15).decompress(compressed + b"\x00\x00\xff\xff") == message
