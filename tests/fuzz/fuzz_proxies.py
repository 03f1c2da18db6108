"""
Invariant: whatever comes before a connection's first request, and whatever a request's fields claim, gives an
address, nothing, or the error that is documented, and the same however the bytes are cut; a header is not
looked for beyond its limit. What a trusted proxy has appended is read as it was meant, whatever the client
had written before it. The way through an HTTP proxy takes no byte behind the head of its answer.

Runs for FUZZ_SECONDS (30), see harness.py: without atheris with headers that are mutated at random. A failing
input is written to FUZZ_CRASHES (build/fuzz); give such a file as an argument to run it again.
"""

import ipaddress
import struct

import harness

harness.use("core")

from feeding import cut, slices  # noqa: E402

from fastws import proxy, proxy_protocol  # noqa: E402
from fastws.exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus  # noqa: E402
from fastws.forwarded import Proxies, parse_node  # noqa: E402
from fastws.headers import FIELD_VALUE, Headers  # noqa: E402
from fastws.uri import parse_uri  # noqa: E402

PEER = ("10.0.0.1", 4711)
TRUSTED = ["10.0.0.0/8", "fd00::/8"]
BY_FIELD = {source: Proxies(TRUSTED, source) for source in ("X-Forwarded-For", "Forwarded")}
# As a proxy appends it; the client's address, as a socket would have it.
APPENDED = [
    ("192.0.2.9", "for=192.0.2.9", ("192.0.2.9", 0)),
    ("192.0.2.9:5", 'for="192.0.2.9:5"', ("192.0.2.9", 5)),
    ("2001:db8::9", 'proto=https;For="[2001:db8::9]"', ("2001:db8::9", 0, 0, 0)),
    ("[2001:db8::9]:5", 'by=_p;for="[2001:db8::9]:5"', ("2001:db8::9", 5, 0, 0)),
    ("192.0.2.9, 10.2.3.4", 'for=192.0.2.9, for=10.2.3.4;host="a,b"', ("192.0.2.9", 0)),
]
# Longest headers: a line, and a block behind its first 16 bytes.
LONGEST_LINE = 107
LONGEST = 16 + 2048
URI = parse_uri("ws://example.org/")


def run(data):
    """Check one input."""
    parts = harness.without_cuts(data)
    if parts is not None:
        flags, size, at, stream = parts
        (before_all, in_fields, of_a_proxy, through_a_proxy)[flags % 4](stream, at, size)


def check_address(address):
    """It is as a socket has it."""
    host, port, *rest = address
    assert ipaddress.ip_address(host).version == (6 if rest else 4)
    assert 0 <= port <= 65535 and rest in ([], [0, 0])


# ---- the PROXY protocol


def header_in(pieces):
    """Return the address and the size of a header; "invalid"; or "incomplete"."""
    reader = proxy_protocol.ProxyHeader()
    taken = 0
    for piece in pieces:
        try:
            size = reader.receive_data(piece)
        except proxy_protocol.InvalidProxyHeader:
            assert taken <= LONGEST
            return "invalid"
        if size is not None:
            assert 0 < size <= len(piece)
            assert taken + size <= LONGEST
            return reader.address, taken + size
        taken += len(piece)
    assert taken < LONGEST
    return "incomplete"


def before_all(stream, at, size):
    whole = header_in([stream])
    assert header_in(cut(stream, at)) == whole
    assert header_in(slices(stream, 1)) == whole
    assert stream[:6] != b"PROXY " or len(stream) < LONGEST_LINE or whole != "incomplete"
    if isinstance(whole, tuple):
        address, taken = whole
        assert header_in([stream[:taken]]) == whole
        assert header_in([stream[: taken - 1]]) == "incomplete"
        if isinstance(address, tuple):
            check_address(address)
        else:
            assert address is None or isinstance(address, str)


# ---- fields


def in_fields(stream, at, size):
    values = [piece.decode("latin-1") for piece in stream.split(b"\n")]
    values = [value for value in values if FIELD_VALUE.fullmatch(value)]
    for value in values:
        if (node := parse_node(value)) is not None:
            check_address(node)
    for i, (source, proxies) in enumerate(BY_FIELD.items()):

        def client(values, source=source, proxies=proxies):
            return proxies.client_of(Headers([(source, value) for value in values]), PEER)

        found = client(values)
        check_address(found)
        if values and '"' not in "".join(values):
            # RFC 9110 5.3: lines are one list.
            assert client([", ".join(values)]) == found
        *appended, address = APPENDED[size % len(APPENDED)]
        assert client([*values, appended[i]]) == address
        if values:
            assert client([*values[:-1], f"{values[-1]}, {appended[i]}"]) == address
        # A stranger is believed nothing.
        assert proxies.client_of(Headers([(source, value) for value in values]), ("192.0.2.1", 1))[1] == 1


# ---- HTTP proxies


def of_a_proxy(stream, at, size):
    try:
        found = proxy.parse_proxy(stream.decode("utf-8", "surrogateescape"))
    except InvalidProxy:
        return
    assert found.scheme == "http" and found.host and 0 < found.port <= 65535
    try:
        request = proxy.connect_request(found, URI)
    except ValueError:  # of the user information
        assert found.user_info is not None
    else:
        assert request.endswith(b"\r\n\r\n") and request.count(b"\r\n\r\n") == 1


class Loop:
    """An event loop that has a proxy's answer, and gives no more of it at once than is asked for."""

    def __init__(self, stream, at):
        self.pieces = [piece for piece in cut(stream, at) if piece]

    async def sock_sendall(self, sock, data):
        pass

    async def sock_recv(self, sock, size):
        if not self.pieces:
            return b""
        piece = self.pieces[0]
        self.pieces[:1] = [piece[size:]] if len(piece) > size else []
        return piece[:size]


def tunnel(stream, at):
    """Return how the way through a proxy ends, and what is left behind its answer."""
    loop = Loop(stream, at)
    try:
        proxy.tunnel(loop, None, proxy.Proxy("http", "proxy", 80), URI).send(None)
    except StopIteration:
        return "open", b"".join(loop.pieces)
    except (InvalidProxyMessage, InvalidProxyStatus) as error:
        return type(error), b""
    raise AssertionError("it waits for something else than its socket")


def through_a_proxy(stream, at, size):
    whole = tunnel(stream, [])
    assert tunnel(stream, at) == whole
    assert tunnel(stream, range(len(stream))) == whole
    if whole[0] == "open":
        head = stream[: len(stream) - len(whole[1])]
        assert head.endswith(b"\r\n\r\n") and head.count(b"\r\n\r\n") == 1


# ---- inputs

LINES = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\n",
    b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 65535 443\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n",
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00",
]
WORDS = [
    b"192.0.2.1",
    b"10.1.2.3",
    b"10.1.2.3:80",
    b"2001:db8::1",
    b"[fd00::1]:65536",
    b"[::ffff:10.0.0.1]",
    b"fe80::1%eth0",
    b"unknown",
    b"_hidden",
    b"for=",
    b"For=",
    b"by=",
    b"proto=https",
    b'"',
    b"\\",
    b'\\"',
    b";",
    b",",
    b", ",
    b"\t",
    b"\n",
    b"",
    b"\xff",
]
URIS = [
    b"http://proxy:3128",
    b"http://user:pass%40@[::1]:80/",
    b"socks5h://proxy",
    b"http://\xc3\xa9x/",
    b"http:",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 200 Connection established\r\nVia: 1.1 x\r\n\r\n",
    b"HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nno!",
    b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    b"HTTP/1.1 204 x\r\n folded: y\r\n\r\n",
    b"HTTP/1.1 101 x\r\nUpgrade: z\r\n\r\n",
]


def some_block(rng):
    """A header of version 2."""
    size = rng.choice([0, 11, 12, 36, 216, 300, 2048, 2049, rng.randrange(65536)])
    block = rng.randbytes(min(size, rng.choice([3000, size, max(0, size - 1)])))
    command, family = (
        rng.choice([0x20, 0x21, 0x21, 0x22, 0x11]),
        rng.choice([0, 0x11, 0x12, 0x21, 0x31, 0x41]),
    )
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", command, family, size) + block


def some_input(rng):
    kind = rng.randrange(4)
    if kind == 0:
        stream = (rng.choice(LINES) if rng.random() < 0.5 else some_block(rng)) + rng.choice(
            [b"", b"GET /", b"\r\n"]
        )
    elif kind == 1:
        stream = b"".join(rng.choices(WORDS, k=rng.randrange(20)))
    elif kind == 2:
        stream = rng.choice(URIS)
    else:
        stream = rng.choice(ANSWERS) + rng.choice([b"", b"\x81\x00", b"\r\n\r\n"])
    stream = harness.spoil(rng, bytearray(stream), rng.choice([0, 0, 1, 1, 2, 8]))
    return harness.with_cuts(rng, kind, rng.randrange(256), stream)


if __name__ == "__main__":
    harness.main("proxies", run, some_input)
