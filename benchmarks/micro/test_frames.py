"""Frame headers in each of their forms, through fastws._frames; the price of the Python call is in it."""

import frames
import pytest

from fastws import _frames

from .payloads import KEY

# By the bytes that hold the length: 1, 2, 8.
each_length = pytest.mark.parametrize("length", [125, 65_535, 2**20])


@each_length
def test_decode(benchmark, length):
    benchmark.group = "header decode"
    data = frames.header(frames.BINARY, length, mask=KEY)
    size, fin, rsv, opcode, got, key = benchmark(_frames.parse_header, data)
    assert (size, fin, rsv, opcode, got, key) == (len(data), True, 0, frames.BINARY, length, KEY)


def test_decode_of_an_unfinished_header(benchmark):
    benchmark.group = "header decode"
    data = frames.header(frames.BINARY, 2**20, mask=KEY)[:-1]
    assert benchmark(_frames.parse_header, data) is None


@each_length
def test_encode(benchmark, length):
    benchmark.group = "header encode"
    assert benchmark(_frames.encode_header, frames.TEXT, length) == frames.header(
        frames.TEXT, length, mask=None
    )
