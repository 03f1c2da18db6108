"""Headers and Close codes against the RFC, wsproto and websockets."""

import struct

import frames
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.streams import StreamReader

from fastws._frames import encode_header, is_close_code, parse_header

# Where the form of the length changes, and what lies beside and at the end.
LENGTHS = [0, 1, 2, 124, 125, 126, 127, 128, 254, 255, 256, 65534, 65535, 65536, 65537, 2**31 - 1, 2**31]
LENGTHS += [2**32 - 1, 2**32, 2**32 + 5, 2**62, 2**63 - 1]
KEYS = [b"\0\0\0\0", b"\xff\xff\xff\xff", frames.KEY]


def refused(first, second, masked):
    """Tell whether RFC 6455 5.1, 5.2 or 5.5 forbids a header for these two bytes alone."""
    opcode = first & 0x0F
    return (
        first & 0x70 != 0
        or opcode not in (0, 1, 2, 8, 9, 10)
        or bool(second & 0x80) is not masked
        or (opcode >= 8 and (not first & 0x80 or second & 0x7F > 125))
    )


def accepts(data, **options):
    try:
        return parse_header(data, **options) is not None
    except ValueError:
        return False


@pytest.mark.parametrize("masked", [True, False])
def test_F1_F3_F4_F5_F6_F13_F14_each_first_two_bytes_are_judged_as_the_rfc_does(masked):
    extended = {126: b"\x01\x00", 127: struct.pack("!Q", 2**16)}
    wrong = []
    for first in range(256):
        for second in range(256):
            data = bytes([first, second]) + extended.get(second & 0x7F, b"") + (frames.KEY if masked else b"")
            if accepts(data, masked=masked) is refused(first, second, masked):
                wrong.append(data)
    assert wrong == []


@pytest.mark.parametrize("first", range(256))
def test_F26_the_first_byte_alone_is_refused_when_no_second_one_could_save_it(first):
    hopeless = all(refused(first, second, True) for second in range(256))
    if hopeless:
        with pytest.raises(ValueError):
            parse_header(bytes([first]))
    else:
        assert parse_header(bytes([first])) is None


@pytest.mark.parametrize("allowed", range(8))
def test_F3_F4_an_extension_allows_its_rsv_bits_on_data_frames_only(allowed):
    for opcode in (0, 1, 2, 8, 9, 10):
        for rsv in range(8):
            data = frames.header(opcode, 5, rsv=rsv)
            good = rsv & (0 if opcode & 8 else allowed) == rsv
            assert accepts(data, rsv_allowed=allowed) is good


@pytest.mark.parametrize("opcode", [frames.CONT, frames.TEXT, frames.BINARY])
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_each_length_in_its_shortest_form_is_parsed(opcode, fin, length):
    for key in KEYS:
        data = frames.header(opcode, length, fin=fin, mask=key)
        assert parse_header(data + b"payload") == (len(data), fin, 0, opcode, length, key)
    data = frames.header(opcode, length, fin=fin, mask=None)
    assert parse_header(data + b"payload", masked=False) == (len(data), fin, 0, opcode, length, None)


@pytest.mark.parametrize("length", range(126))
def test_each_length_of_a_control_frame_is_parsed(length):
    for opcode in (frames.CLOSE, frames.PING, frames.PONG):
        assert parse_header(frames.header(opcode, length))[3:5] == (opcode, length)


@pytest.mark.parametrize("length", range(126))
def test_F7_a_16_bit_length_below_126_is_refused(length):
    with pytest.raises(ValueError, match="shortest form"):
        parse_header(frames.header(frames.BINARY, length, form=2))


@pytest.mark.parametrize("length", [*(2**n for n in range(16)), 0, 125, 126, 127, 65534, 65535])
def test_F8_a_64_bit_length_below_65536_is_refused(length):
    with pytest.raises(ValueError, match="shortest form"):
        parse_header(frames.header(frames.BINARY, length, form=8))


@pytest.mark.parametrize("length", [2**63, 2**63 + 1, 2**64 - 1])
def test_F9_a_64_bit_length_with_its_most_significant_bit_set_is_refused(length):
    with pytest.raises(ValueError, match="most significant bit"):
        parse_header(frames.header(frames.BINARY, length, form=8))


@pytest.mark.parametrize("opcode", [frames.CLOSE, frames.PING, frames.PONG])
@pytest.mark.parametrize(("form", "length"), [(2, 0), (2, 10), (2, 125), (2, 126), (8, 10), (8, 65536)])
def test_F14_an_extended_length_on_a_control_frame_is_refused(opcode, form, length):
    with pytest.raises(ValueError, match="longer than 125 bytes"):
        parse_header(frames.header(opcode, length, form=form))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("masked", [True, False])
def test_F26_a_header_that_is_cut_off_at_any_byte_is_unfinished(length, masked):
    data = frames.header(frames.BINARY, length, mask=frames.KEY if masked else None)
    for size in range(len(data)):
        assert parse_header(data[:size], masked=masked) is None
    assert parse_header(data, masked=masked)[0] == len(data)


@given(st.binary(max_size=16), st.booleans())
def test_F26_more_bytes_never_change_a_verdict(data, masked):
    verdict = None
    for size in range(len(data) + 1):
        try:
            now = parse_header(data[:size], masked=masked)
        except ValueError as error:
            now = str(error)
        if verdict is None:
            verdict = now
        assert now == verdict


@pytest.mark.parametrize("length", LENGTHS)
def test_an_encoded_header_has_the_shortest_form(length):
    for opcode in range(16):
        for rsv in range(8):
            for fin in (True, False):
                expected = frames.header(opcode, length, fin=fin, rsv=rsv, mask=None)
                assert encode_header(opcode, length, fin=fin, rsv=rsv) == expected


@given(
    st.sampled_from([frames.CONT, frames.TEXT, frames.BINARY]),
    st.integers(0, 2**63 - 1) | st.sampled_from(LENGTHS),
    st.booleans(),
)
def test_a_header_survives_encoding_and_parsing(opcode, length, fin):
    data = encode_header(opcode, length, fin=fin)
    assert parse_header(data, masked=False) == (len(data), fin, 0, opcode, length, None)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 65537])
def test_websockets_parses_what_is_encoded_and_encodes_what_is_parsed(length):
    payload = bytes(length)
    for opcode, fin in [(frames.TEXT, True), (frames.BINARY, False), (frames.CONT, True)]:
        reader = StreamReader()
        reader.feed_data(encode_header(opcode, length, fin=fin) + payload)
        parser = Frame.parse(reader.read_exact, mask=False)
        with pytest.raises(StopIteration) as end:
            next(parser)
        theirs = end.value.value
        assert (theirs.opcode, theirs.fin, bytes(theirs.data)) == (opcode, fin, payload)

        data = theirs.serialize(mask=True)
        size, *fields, key = parse_header(data)
        assert fields == [fin, 0, opcode, length]
        assert key == data[size - 4 : size]
        assert len(data) == size + length


@pytest.mark.parametrize(
    ("opcode", "length", "rsv"),
    [(-1, 0, 0), (16, 0, 0), (1, -1, 0), (1, 2**63, 0), (1, 2**64, 0), (1, 0, 8), (1, 0, -1)],
)
def test_a_header_out_of_range_is_not_encoded(opcode, length, rsv):
    with pytest.raises(ValueError, match="allowed are"):
        encode_header(opcode, length, rsv=rsv)


def test_F21_F22_exactly_the_codes_that_may_be_sent_are_close_codes():
    allowed = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    assert {code for code in range(2**16) if is_close_code(code)} == allowed


@pytest.mark.parametrize("code", [-1, 2**16, 2**16 + 1000, 2**32 + 1000, 2**64 + 1000, 1000.0, "1000", None])
def test_F21_what_is_no_16_bit_number_is_no_close_code(code):
    assert not is_close_code(code)
