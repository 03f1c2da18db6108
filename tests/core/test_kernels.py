"""fastws._kernels: every set that this CPU runs against tests/reference.py and CPython's own decoder."""

import ctypes
import functools
import itertools
import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastws import _kernels

# pytest looks for modules beside this file, and reference.py serves the folders beside this one too.
sys.path.insert(0, str(Path(__file__).parents[1]))
import reference

SETS = _kernels.supported()
PAGE = mmap.PAGESIZE
KEY = bytes([0x37, 0xFA, 0x00, 0x91])
LENGTHS = range(301)
CANARY = 0xA5

each_set = pytest.mark.parametrize("kernel", SETS)


class Guarded:
    """
    One page of memory between two that may not be touched: an access past either end is a SIGSEGV.

    `at_end(size)` and `at_start(size)` are writable buffers that touch the one and the other.
    """

    def __init__(self):
        self.map = mmap.mmap(-1, 3 * PAGE)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        for page in (base, base + 2 * PAGE):
            if libc.mprotect(page, PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.page = memoryview(self.map)[PAGE : 2 * PAGE]

    def at_end(self, size, before=0):
        """`size` bytes that end `before` bytes in front of the guard."""
        return self.page[PAGE - before - size : PAGE - before]

    def at_start(self, size, behind=0):
        """`size` bytes that begin `behind` bytes after the guard."""
        return self.page[behind : behind + size]


@functools.cache
def guarded(which):
    return Guarded()


def places(size, align):
    """Pairs of source and destination of `size` bytes: at either guard, and `align` bytes off it."""
    a, b = guarded("source"), guarded("destination")
    yield a.at_end(size), b.at_end(size)
    yield a.at_start(size), b.at_start(size)
    yield a.at_end(size, align), b.at_start(size, align)
    yield a.at_start(size, align), b.at_end(size)


def masked(data, phase):
    return reference.unmask(data, KEY, phase)


# ---- unmask


@each_set
def test_unmask_agrees_with_the_reference_at_every_length_alignment_and_phase(kernel):
    data = random.Random(1).randbytes(512)
    for size in LENGTHS:
        for phase in range(4):
            want = masked(data[:size], phase)
            # All 64 alignments of each length, spread over the phases.
            for align in range(phase, 64, 4):
                buffer = guarded("source").at_start(size, align)
                buffer[:] = data[:size]
                assert _kernels.unmask(buffer, KEY, phase, kernel=kernel) == want, (size, phase, align)


@each_set
def test_unmask_touches_no_byte_past_either_guard_page(kernel):
    data = random.Random(2).randbytes(512)
    for size in LENGTHS:
        phase, align = size % 4, size * 7 % 64
        want = masked(data[:size], phase)
        for src, dst in places(size, align):
            src[:] = data[:size]
            dst[:] = bytes(size)
            _kernels.unmask(src, KEY, phase, into=dst, kernel=kernel)
            assert dst == want
            assert src == data[:size]
            _kernels.unmask(src, KEY, phase, into=src, kernel=kernel)
            assert src == want


@each_set
@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in-place"])
def test_unmask_leaves_the_bytes_around_the_destination_alone(kernel, in_place):
    data = random.Random(3).randbytes(512)
    for size in LENGTHS:
        start = 64 + size * 11 % 64
        area = bytearray([CANARY]) * (start + size + 64)
        into = memoryview(area)[start : start + size]
        if in_place:
            into[:] = data[:size]
        _kernels.unmask(into if in_place else data[:size], KEY, into=into, kernel=kernel)
        assert area[start : start + size] == masked(data[:size], 0)
        assert set(area[:start] + area[start + size :]) == {CANARY}


@each_set
def test_unmask_twice_gives_the_bytes_back_for_long_messages(kernel):
    data = random.Random(4).randbytes(70_001)
    once = _kernels.unmask(data, KEY, 3, kernel=kernel)
    assert once == masked(data, 3)
    assert _kernels.unmask(once, KEY, 3, kernel=kernel) == data


@each_set
def test_unmask_of_the_pieces_is_unmask_of_the_whole(kernel):
    data = random.Random(5).randbytes(200)
    whole = masked(data, 0)
    for cut in range(len(data) + 1):
        pieces = [
            _kernels.unmask(data[:cut], KEY, kernel=kernel),
            _kernels.unmask(data[cut:], KEY, cut % 4, kernel=kernel),
        ]
        assert b"".join(pieces) == whole


# ---- validate, unmask_validate


def validate_plain(text, piece, offset):
    return text.validate(piece)


def validate_apart(text, piece, offset):
    phase = offset % 4
    src = masked(piece, phase)
    into = bytearray(len(src))
    valid = text.unmask_validate(src, KEY, phase, into=into)
    assert valid != len(piece) or into == piece
    return valid


def validate_in_place(text, piece, offset):
    phase = offset % 4
    buffer = bytearray(masked(piece, phase))
    valid = text.unmask_validate(buffer, KEY, phase, into=buffer)
    assert valid != len(piece) or buffer == piece
    return valid


WAYS = [validate_plain, validate_apart, validate_in_place]


def agree(pieces, kernels=SETS):
    """Every set, every way, gives what the reference gives for these pieces."""
    want = reference.outcome(reference.Utf8(), pieces)
    for kernel in kernels:
        for way in WAYS:
            got = reference.outcome(_kernels.Utf8(kernel=kernel), pieces, way)
            assert got == want, (kernel, way.__name__)


def judged(data):
    """CPython's verdict: None, or (offset of the sequence at fault, whether only its end is missing)."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start, error.reason == "unexpected end of data"
    return None


def agrees_with_cpython(kernel, data):
    text = _kernels.Utf8(kernel=kernel)
    valid = text.validate(data)
    verdict = judged(data)
    if verdict is None:
        return valid == len(data) and text.complete and text.ascii == data.isascii()
    start, unfinished = verdict
    if unfinished:
        return valid == len(data) and not text.complete
    # CPython names the first byte of the sequence, the kernels the byte in it that is wrong.
    return start <= valid < len(data) and judged(data[:valid]) in (None, (start, True))


@each_set
def test_every_sequence_of_one_and_two_bytes_is_judged_as_cpython_does(kernel):
    for size in (1, 2):
        for sequence in itertools.product(range(256), repeat=size):
            assert agrees_with_cpython(kernel, bytes(sequence)), sequence


# The bounds of each range in RFC 3629 4, and the bytes on either side of them.
EDGES = sorted(
    {b for first, behind in reference.SEQUENCES for r in (first, *behind) for e in (r[0], r[-1])
     for b in (e - 1, e, e + 1) if 0 <= b <= 255} | {0xF5, 0xF8, 0xFF}
)  # fmt: skip


@each_set
@pytest.mark.parametrize(
    "frame", [b"", b"x" * 61, "é".encode() * 15], ids=["alone", "after-ascii", "after-2"]
)
def test_every_boundary_sequence_of_three_bytes_is_judged_as_cpython_does(kernel, frame):
    for sequence in itertools.product(EDGES, repeat=3):
        data = frame + bytes(sequence)
        assert agrees_with_cpython(kernel, data), sequence
        assert agrees_with_cpython(kernel, data + b"x" * 40), sequence


@each_set
@pytest.mark.parametrize("frame", [b"", b"x" * 61], ids=["alone", "after-ascii"])
def test_every_boundary_sequence_of_four_bytes_is_judged_as_cpython_does(kernel, frame):
    leads = [b for b in EDGES if b >= 0xE0]
    nexts = [0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0]
    for lead, *others in itertools.product(leads, nexts, nexts, nexts):
        data = frame + bytes([lead, *others])
        assert agrees_with_cpython(kernel, data), data
        assert agrees_with_cpython(kernel, data + b"x" * 40), data


# T1-T4 with the offset of the byte that cannot stand there.
WRONG = {
    "T1-ff": (b"\xff", 0),
    "T1-lone-continuation": (b"\x80", 0),
    "T2-surrogate": (b"\xed\xa0\x80", 1),
    "T3-overlong-2": (b"\xc0\xaf", 0),
    "T3-overlong-3": (b"\xe0\x80\xaf", 1),
    "T3-overlong-4": (b"\xf0\x80\x80\xaf", 1),
    "T4-past-10ffff": (b"\xf4\x90\x80\x80", 1),
    "T4-f5": (b"\xf5", 0),
    "two-of-three": (b"\xe2\x82A", 2),
    "three-of-four": (b"\xf0\x9f\x98A", 3),
}


@each_set
@pytest.mark.parametrize("name", WRONG)
def test_the_first_bad_byte_is_found_wherever_it_stands(kernel, name):
    wrong, bad = WRONG[name]
    for filler, behind in (("x", 0), ("x", 200), ("é", 7), ("€", 64), ("😀", 130)):
        size = len(filler.encode())
        for place in range(150):
            before = b"x" * (place % size) + filler.encode() * (place // size)
            data = before + wrong + b"y" * behind
            for way in WAYS:
                text = _kernels.Utf8(kernel=kernel)
                assert way(text, data, 0) == place + bad, (filler, place, way.__name__)


@each_set
def test_a_good_byte_in_the_bad_ones_place_is_accepted(kernel):
    for sequence in (
        b"\xed\x9f\xbf",
        b"\xe0\xa0\x80",
        b"\xf0\x90\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xc2\x80",
        b"\x00",
    ):
        for place in range(130):
            text = _kernels.Utf8(kernel=kernel)
            data = b"x" * place + sequence + b"\xef\xbb\xbf\xef\xbf\xbf\x00"
            assert text.validate(data) == len(data)
            assert text.complete


@each_set
def test_validation_touches_no_byte_past_either_guard_page(kernel):
    source = "aé€😀 plain ascii for a while, and on, until more than sixty-four bytes have gone by -"
    mixed = (source * 8).encode()
    for size in LENGTHS:
        phase, align = size % 4, size * 5 % 64
        for data in (mixed[:size], b"z" * size):
            want = [(size, judged(data) is None, data.isascii())]
            hidden = masked(data, phase)
            for src, dst in places(size, align):
                src[:] = data
                assert reference.outcome(_kernels.Utf8(kernel=kernel), [src]) == want
                src[:] = hidden
                dst[:] = bytes(size)
                text = _kernels.Utf8(kernel=kernel)
                assert text.unmask_validate(src, KEY, phase, into=dst) == size
                assert dst == data
                assert src == hidden
                assert (text.complete, text.ascii) == want[0][1:]
                text = _kernels.Utf8(kernel=kernel)
                assert text.unmask_validate(src, KEY, phase, into=src) == size
                assert src == data
                assert (text.complete, text.ascii) == want[0][1:]


@each_set
def test_unmask_validate_leaves_the_bytes_around_the_destination_alone(kernel):
    mixed = ("naïve €5 😀 " * 40).encode()
    for size in LENGTHS:
        start = 64 + size * 11 % 64
        for wrong in (None, size // 2):
            data = bytearray(mixed[:size])
            if wrong is not None and size:
                data[wrong] = 0xFF
            area = bytearray([CANARY]) * (start + size + 64)
            into = memoryview(area)[start : start + size]
            _kernels.Utf8(kernel=kernel).unmask_validate(masked(data, 0), KEY, into=into)
            into[:] = masked(data, 0)
            _kernels.Utf8(kernel=kernel).unmask_validate(into, KEY, into=into)
            assert set(area[:start] + area[start + size :]) == {CANARY}


@each_set
def test_one_non_ascii_code_point_anywhere_is_noticed(kernel):
    for size in (1, 7, 31, 64, 65, 127, 200):
        for place in range(size):
            text = _kernels.Utf8(kernel=kernel)
            text.validate(b"x" * place + "é".encode() + b"x" * (size - place))
            assert not text.ascii
    for size in LENGTHS:
        text = _kernels.Utf8(kernel=kernel)
        text.validate(b"\x7f" * size)
        assert text.ascii


code_points = st.one_of(
    st.characters(max_codepoint=0x7F),
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("\x7f\x80\u07ff\u0800\ud7ff\ue000\ufeff\uffff\U00010000\U0010ffff"),
)
texts = st.builds(
    lambda lead, text: ("x" * lead + text).encode(), st.integers(0, 130), st.text(code_points, max_size=80)
)


@given(texts, st.data())
def test_a_text_cut_anywhere_is_judged_as_the_whole_is(data, draw):
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=4).map(sorted))
    agree([data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])])


@given(texts.filter(len), st.data())
def test_a_spoilt_text_fails_at_the_same_byte_in_every_set(data, draw):
    spoilt = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        spoilt[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(data)))
    agree([bytes(spoilt[:cut]), bytes(spoilt[cut:])])


@given(st.binary(max_size=300), st.integers(0, 300))
@example(b"\x00" * 63 + b"\xc3\xa9", 64)
def test_arbitrary_bytes_are_judged_as_the_reference_does(data, cut):
    agree([data[:cut], data[cut:]])


@pytest.mark.parametrize("text", ["😀 " * 30, "x" * 62 + "€" + "y" * 70, "日本語のテキスト" * 8])
def test_a_split_at_every_point_changes_nothing(text):
    data = text.encode()
    for cut in range(len(data) + 1):
        agree([data[:cut], data[cut:]])
    agree([data[i : i + 1] for i in range(len(data))])


@each_set
def test_a_long_text_of_every_code_point_is_accepted_in_pieces_of_any_size(kernel):
    every = "".join(map(chr, itertools.chain(range(0xD800), range(0xE000, 0x110000, 7)))).encode()
    for size in (len(every), 4099, 67):
        text = _kernels.Utf8(kernel=kernel)
        for start in range(0, len(every), size):
            piece = every[start : start + size]
            assert text.validate(piece) == len(piece)
        assert text.complete
        assert not text.ascii


# ---- the Python face


def test_the_reference_is_cpythons_decoder():
    rng = random.Random(6)
    for _ in range(2000):
        data = bytes(rng.choice(EDGES) for _ in range(rng.randrange(12)))
        text = reference.Utf8()
        accepted = text.validate(data) == len(data) and text.complete
        assert accepted == (judged(data) is None)


def test_scalar_is_always_there_and_last():
    assert SETS[-1] == "scalar"
    assert _kernels.kernels() in SETS


def run_with(kernel):
    return subprocess.run(
        [sys.executable, "-c", "from fastws._kernels import kernels; print(kernels())"],
        env={**os.environ, "FASTWS_KERNELS": kernel},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kernel", ["", *SETS])
def test_the_environment_picks_the_set(kernel):
    assert run_with(kernel).stdout.strip() == (kernel or SETS[0])


@pytest.mark.parametrize("kernel", ["mmx", "AVX2 ", "\udcff"])
def test_an_unknown_set_in_the_environment_is_an_import_error_with_the_value_and_the_choice(kernel):
    done = run_with(kernel)
    assert done.returncode != 0
    assert (
        f"ImportError: FASTWS_KERNELS is {kernel!r}, this CPU and build have {', '.join(SETS)}" in done.stderr
    )


@pytest.mark.parametrize("kernel", ["mmx", "", "scalar\0", "\udcff", 3])
def test_an_unknown_set_is_a_value_error_with_the_value_and_the_choice(kernel):
    with pytest.raises(ValueError) as caught:
        _kernels.unmask(b"", KEY, kernel=kernel)
    assert str(caught.value) == f"kernel is {kernel!r}, this CPU and build have {', '.join(SETS)}"
    with pytest.raises(ValueError, match="kernel is"):
        _kernels.Utf8(kernel=kernel)


def calls(key=KEY, phase=0, into=None):
    yield lambda: _kernels.unmask(b"abcd", key, phase, into=into)
    yield lambda: _kernels.Utf8().unmask_validate(
        b"abcd", key, phase, into=bytearray(4) if into is None else into
    )


@pytest.mark.parametrize("key", [b"", b"123", b"12345"])
def test_a_key_that_is_not_4_bytes_is_refused(key):
    for call in calls(key=key):
        with pytest.raises(ValueError, match=f"^masking key is {len(key)} bytes, it has 4$"):
            call()


@pytest.mark.parametrize("phase", [-1, 4, 2**70])
def test_a_phase_outside_0_to_3_is_refused(phase):
    for call in calls(phase=phase):
        with pytest.raises(ValueError, match=f"^phase is {phase}, allowed are 0 to 3$"):
            call()


def test_a_destination_of_another_length_is_refused():
    for call in calls(into=bytearray(5)):
        with pytest.raises(ValueError, match=r"^into is 5 bytes, src is 4$"):
            call()


@pytest.mark.parametrize("apart", [1, 7])
def test_a_destination_that_overlaps_in_part_is_refused(apart):
    area = memoryview(bytearray(32))
    low, high = area[:8], area[apart : apart + 8]
    for src, into in ((low, high), (high, low)):
        with pytest.raises(ValueError, match=f"^into overlaps src {apart} bytes apart"):
            _kernels.unmask(src, KEY, into=into)


def test_a_read_only_destination_is_refused():
    for call in calls(into=b"1234"):
        with pytest.raises((BufferError, TypeError)):
            call()


def test_buffers_are_released_whether_the_call_succeeds_or_not():
    area, key = bytearray(8), bytearray(4)
    _kernels.unmask(area, key, into=area)
    _kernels.Utf8().validate(area)
    for call in (
        lambda: _kernels.unmask(area, key, 9),
        lambda: _kernels.unmask(area, key, into=bytearray(3)),
    ):
        with pytest.raises(ValueError):
            call()
    area.append(0)  # a BufferError while anything still holds it
    key.append(0)
