"""The PROXY protocol: the headers of both versions, in any pieces, and what is none."""

import socket
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastws.proxy_protocol import InvalidProxyHeader, ProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_LONGEST = b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n"


def v2(block=b"", command=0x21, family=0x11, length=None):
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def ipv4(tlvs=b""):
    return socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 5, 6) + tlvs


def ipv6():
    return (
        socket.inet_pton(socket.AF_INET6, "2001:db8::1")
        + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
        + struct.pack("!HH", 65535, 443)
    )


def unix(path):
    return path.ljust(108, b"\0") + b"/to".ljust(108, b"\0")


VALID = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\n", ("192.0.2.1", 5)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:DB8::1 2001:db8::2 0 443\r\n", ("2001:db8::1", 0, 0, 0)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN whatever else it says\r\n", None),
    (V1_LONGEST, None),
    (v2(ipv4()), ("192.0.2.1", 5)),
    (v2(ipv4(b"\x03\x00\x04abcd\x20\x00\x00")), ("192.0.2.1", 5)),
    (v2(ipv6(), family=0x21), ("2001:db8::1", 65535, 0, 0)),
    (v2(unix(b"/from"), family=0x31), "/from"),
    (v2(command=0x20, family=0x00), None),
    (v2(b"is skipped", command=0x20, family=0x11), None),
    (v2(ipv4(), family=0x12), None),
    (v2(b"", family=0x00), None),
    (v2(bytes(2048), family=0x00), None),
]
INVALID = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01",
    b"proxy TCP4 192.0.2.1 192.0.2.2 5 443\r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.2 5 443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 5 443 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 5\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 05 443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.2 5 443\r\n",
    b"PROXY TCP4 192.0.2.1 2001:db8::2 5 443\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 5 443\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 5 443\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    b"PROXY UNKNOWN " + b"f" * 200,
    SIGNATURE[:-1] + b"\r",
    v2(ipv4(), command=0x11),
    v2(ipv4(), command=0x31),
    v2(ipv4(), command=0x22),
    v2(ipv4()[:-1]),
    v2(ipv4(), family=0x21),
    v2(ipv6(), family=0x31),
    v2(length=2049),
    v2(length=65535),
]


def feed(data, cuts=()):
    """Feed a header in pieces; return how many bytes it took, or None, and the address."""
    header = ProxyHeader()
    taken = 0
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    for start, end in zip([0, *ends], ends, strict=False):
        used = header.receive_data(data[start:end])
        if used is not None:
            return taken + used, header.address
        taken += end - start
    return None, header.address


@pytest.mark.parametrize(("header", "address"), VALID)
def test_a_header_gives_the_clients_address_and_nothing_behind_it_is_taken(header, address):
    assert feed(header) == (len(header), address)
    assert feed(header + b"\x16\x03 behind PROXY \r\n") == (len(header), address)


@pytest.mark.parametrize(("header", "address"), VALID)
def test_a_header_may_come_byte_by_byte(header, address):
    assert feed(header + b"behind", range(len(header) + 6)) == (len(header), address)


@pytest.mark.parametrize(("header", "_"), VALID)
def test_half_a_header_is_not_complete(header, _):
    for size in range(1, len(header)):
        assert feed(header[:size]) == (None, None)


@pytest.mark.parametrize("data", INVALID)
def test_what_is_no_header_is_refused(data):
    with pytest.raises(InvalidProxyHeader):
        feed(data)
    with pytest.raises(InvalidProxyHeader):
        feed(data, range(len(data)))


def test_a_line_without_an_end_is_refused_at_107_bytes():
    header = ProxyHeader()
    assert header.receive_data(b"PROXY UNKNOWN ".ljust(106, b"x")) is None
    with pytest.raises(InvalidProxyHeader, match="107 bytes"):
        header.receive_data(b"x")


def test_a_block_that_is_too_long_is_refused_before_it_comes():
    with pytest.raises(InvalidProxyHeader, match="2049 bytes, limit is 2048"):
        feed(v2(length=2049))


@given(
    st.one_of(
        st.binary(max_size=300),
        st.sampled_from([header for header, _ in VALID] + INVALID),
        st.builds(lambda block: v2(block), st.binary(max_size=60)),
        st.builds(lambda rest: b"PROXY TCP4 " + rest, st.binary(max_size=120)),
    ),
    st.lists(st.integers(0, 300), max_size=6),
)
@example(b"PROXY UNKNOWN\r\n\r\n", [15])
def test_any_split_gives_the_same(data, cuts):
    def result(cuts):
        try:
            return feed(data, cuts)
        except InvalidProxyHeader:
            return "refused"

    assert result(cuts) == result(())
