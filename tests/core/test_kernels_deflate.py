"""fastws._kernels.deflate: zlib inflates what it gives, and so does tests/reference.py, which sees more."""

import itertools
import json
import random
import shutil
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_emulated import KERNELS, ROOT, SANITIZED, STRICT, compile_c, run

from fastws._kernels import deflate

# pytest looks for modules beside this file, and reference.py serves the folders beside this one too.
sys.path.insert(0, str(Path(__file__).parents[1]))
import reference

TAIL = b"\x00\x00\xff\xff"
WINDOWS = range(9, 16)


def inflate(compressed, window_bits=15):
    stream = zlib.decompressobj(-window_bits)
    data = stream.decompress(compressed + TAIL)
    assert not stream.unused_data
    assert not stream.eof  # BFINAL was not set
    return data


def ticker(size, seed=1):
    rng = random.Random(seed)
    rows = [
        {
            "symbol": rng.choice(["BTC-USD", "ETH-USD", "SOL-USD", "EUR-USD"]),
            "price": f"{rng.uniform(1, 99999):.2f}",
            "side": rng.choice(["buy", "sell"]),
            "time": 1732190400000 + i,
        }
        for i in range(size // 60 + 1)
    ]
    return json.dumps(rows, separators=(",", ":")).encode()[:size]


def periodic(period, size, seed=1):
    """`size` bytes that repeat, unlike anything else, after `period` bytes."""
    unit = random.Random(seed).randbytes(period)
    return (unit * (size // period + 1))[:size]


def mixed(size, seed=1):
    """Text, bytes of no pattern, runs, and copies of all that from near and far."""
    rng = random.Random(seed)
    data = bytearray()
    while len(data) < size:
        kind = rng.randrange(4)
        if kind == 0:
            data += ticker(rng.randrange(300), rng.random())
        elif kind == 1:
            data += rng.randbytes(rng.randrange(1, 200))
        elif kind == 2:
            data += bytes([rng.randrange(256)]) * rng.randrange(1, 700)
        elif data:
            start = rng.randrange(len(data))
            data += data[start : start + rng.randrange(3, 600)]
    return bytes(data[:size])


KINDS = {
    "ticker": ticker,
    "random": lambda size: random.Random(2).randbytes(size),
    "zeros": bytes,
    "mixed": mixed,
    "four-letters": lambda size: bytes(random.Random(3).choices(b"abcd", k=size)),
    "fibonacci": lambda size: fibonacci_uses(size),
}


def fibonacci_uses(size):
    """Letters used 1, 1, 2, 3, 5, ... times, in no order: codes as long as they get."""
    data = bytearray()
    for letter, (count, _) in enumerate(itertools.islice(fibonacci(), 20)):
        data += bytes([letter]) * count
    random.Random(4).shuffle(data)
    return bytes((data * (size // len(data) + 1))[:size])


def fibonacci():
    a, b = 1, 1
    while True:
        yield a, b
        a, b = b, a + b


each_kind = pytest.mark.parametrize("kind", KINDS)
each_window = pytest.mark.parametrize("window_bits", WINDOWS)


def test_an_empty_message_is_one_byte():
    # RFC 7692 7.2.3.6: "a single octet 0x00"
    assert deflate(b"") == b"\x00"
    assert deflate(b"", room=0) is None


@each_kind
@pytest.mark.parametrize(
    "size", [*range(20), *range(250, 265), 1000, 1024, 4096, 8183, 8184, 8185, 8192, 16_384]
)
def test_a_message_comes_back(kind, size):
    data = KINDS[kind](size)
    compressed = deflate(data)
    assert inflate(compressed) == data
    found = reference.Inflated(compressed)
    assert found.data == data
    assert all(3 <= length <= 258 for length in found.lengths)


@each_kind
@pytest.mark.parametrize("size", [32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 200_000])
def test_a_long_message_comes_back(kind, size):
    data = KINDS[kind](size)
    assert inflate(deflate(data)) == data


@each_window
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_no_distance_is_larger_than_the_window(window_bits, off):
    # Its only repetition is that far back: just inside the window, at its end, just outside.
    window = 1 << window_bits
    data = periodic(window + off, 2 * window + 600)
    compressed = deflate(data, window_bits)
    assert inflate(compressed, window_bits) == data
    found = reference.Inflated(compressed)
    assert found.data == data
    assert set(found.distances) == ({window + off} if off <= 0 else set())


@each_window
def test_distances_stay_in_the_window_in_all_that_is_mixed(window_bits):
    data = mixed(30_000)
    found = reference.Inflated(deflate(data, window_bits))
    assert found.data == data
    assert 0.4 * 2**window_bits < max(found.distances) <= 2**window_bits


@pytest.mark.parametrize(
    ("data", "blocks"),
    [
        (b"x", ["fixed"]),
        (ticker(80), ["fixed"]),
        (ticker(1024), ["dynamic"]),
        (random.Random(5).randbytes(1000), ["stored"]),
        (bytes(100_000), ["dynamic"]),
        (random.Random(5).randbytes(8184) + ticker(2000), ["stored", "dynamic"]),
    ],
    ids=["1", "80", "1024", "random", "zeros", "random-then-ticker"],
)
def test_each_block_is_of_the_kind_that_takes_least(data, blocks):
    assert reference.Inflated(deflate(data)).blocks == blocks


@each_kind
@pytest.mark.parametrize("size", [0, 1, 5, 64, 300, 1024])
def test_with_less_room_than_it_takes_there_is_no_result(kind, size):
    data = KINDS[kind](size)
    compressed = deflate(data)
    for room in range(len(compressed) + 9):
        assert deflate(data, room=room) == (compressed if room >= len(compressed) else None)


@pytest.mark.parametrize("size", [100, 1024, 10_000, 200_000])
def test_bytes_without_pattern_grow_by_five_for_each_block(size):
    data = random.Random(6).randbytes(size)
    assert len(deflate(data)) <= size + 5 * (size // 8184 + 1) + 1


def test_what_was_compressed_before_changes_nothing():
    messages = [mixed(size, size) for size in (10, 300, 1024, 5000, 70_000)]
    first = [deflate(data) for data in messages]
    rng = random.Random(7)
    for _ in range(3000):
        i = rng.randrange(4)
        # A result that was given up for want of room leaves nothing behind either.
        assert deflate(messages[i], room=rng.randrange(len(first[i]))) is None
        assert deflate(messages[i]) == first[i]
    assert [deflate(data) for data in messages] == first


def test_ticker_messages_get_as_small_as_zlib_makes_them():
    ours = zlibs = 0
    for seed in range(40):
        data = ticker(1024, seed)
        ours += len(deflate(data))
        stream = zlib.compressobj(1, wbits=-15)
        zlibs += len(stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)) - 4
    assert ours < zlibs


@given(st.binary(max_size=2000), st.integers(9, 15))
def test_any_bytes_come_back(data, window_bits):
    assert reference.Inflated(deflate(data, window_bits)).data == data


@given(st.text(alphabet='ab{":,', max_size=3000), st.integers(9, 15))
def test_text_of_few_letters_comes_back(text, window_bits):
    data = text.encode()
    compressed = deflate(data, window_bits)
    assert inflate(compressed, window_bits) == data
    assert all(d <= 1 << window_bits for d in reference.Inflated(compressed).distances)


pieces = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda byte, count: byte * count, st.binary(min_size=1, max_size=5), st.integers(0, 400)),
    st.sampled_from([ticker(200), mixed(500)]),
)


@given(st.lists(pieces, max_size=12), st.lists(st.integers(0, 11), max_size=20), st.integers(9, 15))
def test_pieces_that_come_again_come_back(parts, order, window_bits):
    data = b"".join(parts[i] for i in order if i < len(parts))
    compressed = deflate(data, window_bits)
    assert inflate(compressed, window_bits) == data
    assert deflate(data, window_bits, len(compressed)) == compressed
    assert deflate(data, window_bits, len(compressed) - 1) is None


@pytest.mark.parametrize("make", [bytearray, memoryview], ids=["bytearray", "memoryview"])
def test_any_buffer_is_a_message(make):
    assert deflate(make(b"abc" * 50)) == deflate(b"abc" * 50)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((b"", 8), "window_bits is 8, allowed are 9 to 15"),
        ((b"", 16), "window_bits is 16, allowed are 9 to 15"),
        ((b"", 15, -1), "room is -1, it is at least 0"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        deflate(*arguments)


def test_the_fuzz_target_finds_nothing_under_the_sanitizers(tmp_path):
    # Messages in exactly sized allocations, every room, a base about to wrap; it inflates by itself.
    have_zlib = shutil.which("gcc") and Path("/usr/include/zlib.h").exists()
    program = compile_c(
        tmp_path / "fuzz_deflate", *SANITIZED, *STRICT, "-DALONE", f"-I{KERNELS}",
        *(["-DWITH_ZLIB"] if have_zlib else []),
        ROOT / "tests" / "fuzz" / "fuzz_deflate.c", KERNELS / "deflate.c", *(["-lz"] if have_zlib else []),
    )  # fmt: skip
    assert run(program, "-3", 1).endswith("inputs passed\n")
