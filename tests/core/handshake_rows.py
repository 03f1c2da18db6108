"""
Requests for the opening handshake, and how they are answered.

`REJECTED` and `ACCEPTED` have a row for each way in which a request can be wrong, or unusual and
right; `answer` feeds a request to a `ServerHandshake` in pieces.
"""

import hashlib
import itertools
from typing import NamedTuple

from fastws.handshake import Policy, Rejected, ServerHandshake
from fastws.headers import Headers

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3
FIELDS = {
    "Host": "example.com:8765",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
DEFAULT = Policy()


def request(*more, line="GET /chat HTTP/1.1", without=(), **changed):
    """A request head: the fields of a good one, without some, or changed, and more behind them."""
    changed = {name.replace("_", "-").lower(): value for name, value in changed.items()}
    fields = [
        f"{name}: {changed.get(name.lower(), value)}" for name, value in FIELDS.items() if name not in without
    ]
    return "\r\n".join([line, *fields, *more, "", ""]).encode("latin-1")


GOOD = request()


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes
    why: str
    subprotocol: str | None = None
    rest: bytes = b""
    head: bytes = b""


def parse_response(data):
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = Headers(line.split(": ", 1) for line in lines)
    del headers["Date"]
    assert first.startswith("HTTP/1.1 ")
    return int(first[9:12]), headers, body


def answer(pieces, policy=DEFAULT):
    """What a request is answered; None when more of it is expected."""
    handshake = ServerHandshake(policy)
    why = ""
    pieces = iter(pieces)
    try:
        for piece in pieces:
            if handshake.receive_data(piece):
                break
        else:
            return None
        reply = handshake.accept_bytes()
    except Rejected as error:
        return Answer(*parse_response(handshake.serialize(error.response)), str(error))
    rest = handshake.rest + b"".join(pieces)
    return Answer(*parse_response(reply), why, handshake.subprotocol, rest, handshake.head)


def single_bytes(data):
    return [data[i : i + 1] for i in range(len(data))]


def cut(data, cuts):
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def answer_to(data, policy=DEFAULT):
    """What a request is answered, in one piece and byte by byte."""
    whole = answer([data], policy)
    assert answer(single_bytes(data), policy) == whole
    return whole


def of_size(size, name="X"):
    return f"{name}: " + "a" * (size - len(name) - 2)


def head_of_size(size):
    fields = [of_size(8000, f"X-{i}") for i in range(size // 8002)]
    rest = size - len(request(*fields)) - 2
    return request(*fields, of_size(rest, "Last"))


UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade, close"}
OURS = {"Sec-WebSocket-Version": "13"}
OTHER_KEY = "AQIDBAUGBwgJCgsMDQ4PEA=="

REJECTED = {
    "H1-POST": (request(line="POST / HTTP/1.1"), 405, {"Allow": "GET"}),
    "H1-HEAD": (request(line="HEAD / HTTP/1.1"), 405, {"Allow": "GET"}),
    "H2-unknown": (request(line="BREW / HTTP/1.1"), 501, {}),
    "H2-lowercase": (request(line="get / HTTP/1.1"), 501, {}),
    "H2-no-token": (request(line="G@T / HTTP/1.1"), 400, {}),
    "H2-empty": (request(line=" / HTTP/1.1"), 400, {}),
    "H3-CONNECT": (request(line="CONNECT example.com:80 HTTP/1.1"), 405, {"Allow": "GET"}),
    "H3-CONNECT-path": (request(line="CONNECT / HTTP/1.1"), 400, {}),
    "H4-GET": (request(line="GET / HTTP/1.0"), 426, UPGRADE),
    "H4-OPTIONS": (request(line="OPTIONS / HTTP/1.0"), 405, {"Allow": "GET"}),
    "H4-no-host": (request(line="GET / HTTP/1.0", without=["Host"]), 426, UPGRADE),
    "H5-0.9": (request(line="GET / HTTP/0.9"), 505, {}),
    "H5-2.0": (request(line="GET / HTTP/2.0"), 505, {}),
    "H5-3.0": (request(line="GET / HTTP/3.0"), 505, {}),
    "H5-none": (request(line="GET /"), 400, {}),
    "H5-case": (request(line="GET / http/1.1"), 400, {}),
    "H5-two-digits": (request(line="GET / HTTP/1.10"), 400, {}),
    "H6-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, {}),
    "H7-missing": (request(without=["Host"]), 400, {}),
    "H8-same": (request("Host: example.com:8765"), 400, {}),
    "H8-other": (request("host: example.org"), 400, {}),
    "H9-empty": (request(host=""), 400, {}),
    "H9-only-port": (request(host=":80"), 400, {}),
    "H9-space": (request(host="a b"), 400, {}),
    "H9-list": (request(host="a@b"), 400, {}),
    "H9-slash": (request(host="a/b"), 400, {}),
    "H9-port": (request(host="a:b"), 400, {}),
    "H9-two-ports": (request(host="a:1:2"), 400, {}),
    "H9-latin-1": (request(host="ex\xe4mple.com"), 400, {}),
    "H9-percent": (request(host="a%zz"), 400, {}),
    "H9-ipv6": (request(host="[::1::]"), 400, {}),
    "H9-ipv6-open": (request(host="[::1"), 400, {}),
    "H10-missing": (request(without=["Upgrade"]), 426, UPGRADE),
    "H10-page": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426, UPGRADE),
    "H11-h2c": (request(upgrade="h2c"), 426, UPGRADE),
    "H11-version": (request(upgrade="websocket/13"), 426, UPGRADE),
    "H11-empty": (request(upgrade=""), 426, UPGRADE),
    "H12-missing": (request(without=["Connection"]), 426, UPGRADE),
    "H12-keep-alive": (request(connection="keep-alive"), 426, UPGRADE),
    "H12-part": (request(connection="upgraded"), 426, UPGRADE),
    "H14-missing": (request(without=["Sec-WebSocket-Key"]), 400, {}),
    "H15-15-bytes": (request(sec_websocket_key="AQIDBAUGBwgJCgsMDQ4P"), 400, {}),
    "H15-17-bytes": (request(sec_websocket_key="AQIDBAUGBwgJCgsMDQ4PEBE="), 400, {}),
    "H15-alphabet": (request(sec_websocket_key="AQIDBAUGBwgJCgsMDQ4P_A=="), 400, {}),
    "H15-junk": (request(sec_websocket_key="AQIDBAUGBwgJ CgsMDQ4PEA=="), 400, {}),
    "H15-no-padding": (request(sec_websocket_key="AQIDBAUGBwgJCgsMDQ4PEA"), 400, {}),
    "H15-empty": (request(sec_websocket_key=""), 400, {}),
    "H15-latin-1": (request(sec_websocket_key="\xe9" * 24), 400, {}),
    "H16-same": (request(f"Sec-WebSocket-Key: {KEY}"), 400, {}),
    "H16-other": (request(f"sec-websocket-key: {OTHER_KEY}"), 400, {}),
    "H16-empty": (request("Sec-WebSocket-Key:"), 400, {}),
    "H17-missing": (request(without=["Sec-WebSocket-Version"]), 400, OURS),
    **{
        f"H18-{version}": (request(sec_websocket_version=version), 426, {**UPGRADE, **OURS})
        for version in ("7", "8", "12", "99", "abc", "013", "13.0", "")
    },
    "H18-no-key": (
        request(without=["Sec-WebSocket-Key"], sec_websocket_version="8"),
        426,
        {**UPGRADE, **OURS},
    ),
    "H19-same": (request("Sec-WebSocket-Version: 13"), 400, OURS),
    "H19-other": (request("Sec-WebSocket-Version: 8"), 400, OURS),
    "H20-length": (request("Content-Length: 5") + b"hello", 400, {}),
    "H20-length-first": (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n" + GOOD[20:] + b"hello", 400, {}),
    "H20-HTTP/1.0": (request("Content-Length: 5", line="POST / HTTP/1.0") + b"hello", 400, {}),
    "H21-chunked": (request("Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, {}),
    "H21-identity": (request("Transfer-Encoding: identity"), 400, {}),
    "H21-empty": (request("Transfer-Encoding:"), 400, {}),
    "H22-both": (request("Content-Length: 0", "Transfer-Encoding: chunked"), 400, {}),
    "H22-both-reversed": (request("Transfer-Encoding: chunked", "Content-Length: 0"), 400, {}),
    "H22-twice": (request("Content-Length: 0", "Content-Length: 5"), 400, {}),
    "H22-twice-zero": (request("Content-Length: 0", "Content-Length: 0"), 400, {}),
    "H22-list": (request("Content-Length: 0, 0"), 400, {}),
    "H22-negative": (request("Content-Length: -1"), 400, {}),
    "H22-plus": (request("Content-Length: +0"), 400, {}),
    "H22-hex": (request("Content-Length: 0x5"), 400, {}),
    "H22-empty": (request("Content-Length:"), 400, {}),
    "H22-overflow": (request(f"Content-Length: {2**64}"), 400, {}),
    "H22-xchunked": (request("Transfer-Encoding: xchunked"), 400, {}),
    "H23-one-over": (request(line=f"GET /{'a' * (8192 - 13)} HTTP/1.1"), 414, {}),
    "H23-endless": (b"GET /" + b"a" * 70000, 414, {}),
    "H24-one-over": (request(of_size(8193)), 431, {}),
    "H24-endless": (request()[:-2] + b"X: " + b"a" * 70000, 431, {}),
    "H24-endless-name": (request()[:-2] + b"X" * 70000, 431, {}),
    "H24-total": (head_of_size(32 * 1024 + 1), 431, {}),
    "H24-total-by-CRLF-of-field": (head_of_size(32 * 1024 + 3), 431, {}),
    "H24-total-by-field": (head_of_size(32 * 1024 + 99), 431, {}),
    "H25-129-fields": (request(*[f"X-{i}: a" for i in range(124)]), 431, {}),
    "H25-129-same": (request(*["X: a"] * 124), 431, {}),
    "H25-endless": (request()[:-2] + b"X: a\r\n" * 3000, 431, {}),
    "H27-space": (request("X: a", " b"), 400, {}),
    "H27-tab": (request("X: a", "\tb"), 400, {}),
    "H27-first": (b"GET / HTTP/1.1\r\n X: a\r\n" + GOOD[20:], 400, {}),
    "H28-space-before-colon": (request("X : a"), 400, {}),
    "H28-name": (request("X(: a"), 400, {}),
    "H28-name-latin-1": (request("X\xe9: a"), 400, {}),
    "H28-empty-name": (request(": a"), 400, {}),
    "H28-no-colon": (request("X"), 400, {}),
    **{
        f"H29-value-{byte:02x}": (request(f"X: a{chr(byte)}b"), 400, {})
        for byte in (*range(9), *range(14, 32), 127)
    },
    **{
        f"H29-target-{byte:02x}": (request(line=f"GET /a{chr(byte)}b HTTP/1.1"), 400, {})
        for byte in (*range(10), *range(14, 32), 127)
    },
    "H30-bare-LF": (request("X: a\nY: b"), 400, {}),
    "H30-bare-CR": (request("X: a\rY: b"), 400, {}),
    "H30-CR-CR-LF": (request("X: a\r"), 400, {}),
    "H30-all-LF": (GOOD.replace(b"\r\n", b"\n"), 400, {}),
    "H30-end": (GOOD[:-2] + b"\n", 400, {}),
    "H30-CR-in-line": (request(line="GET /\rHTTP/1.1"), 400, {}),
    "H32-no-token": (request("Sec-WebSocket-Protocol: chat, a b"), 400, {}),
    "H32-quoted": (request('Sec-WebSocket-Protocol: "chat"'), 400, {}),
    "H32-latin-1": (request("Sec-WebSocket-Protocol: \xe9"), 400, {}),
    "H32-empty": (request("Sec-WebSocket-Protocol:"), 400, {}),
    "H32-only-empty": (request("Sec-WebSocket-Protocol: , ,,"), 400, {}),
    "H33-VT": (request("X: a\x0bY: b"), 400, {}),
    "H33-FF": (request("X: a\x0cY: b"), 400, {}),
    "H33-FS": (request("X: a\x1cY: b"), 400, {}),
    "H36-twice": (request("Origin: http://a", "Origin: http://a"), 400, {}),
    "H37-other-scheme": (request(line="GET ftp://example.org/ HTTP/1.1"), 400, {}),
    "H37-no-host": (request(line="GET http:///chat HTTP/1.1"), 400, {}),
    "H37-user": (request(line="GET http://me@example.org/ HTTP/1.1"), 400, {}),
    "H37-bad-host": (request(line="GET http://a:b/ HTTP/1.1"), 400, {}),
    "H37-no-host-field": (request(line="GET http://example.org/ HTTP/1.1", without=["Host"]), 400, {}),
    "H37-bad-host-field": (request(line="GET http://example.org/ HTTP/1.1", host=""), 400, {}),
    "H37-fragment": (request(line="GET http://example.org/#a HTTP/1.1"), 400, {}),
    "H38-asterisk": (request(line="GET * HTTP/1.1"), 400, {}),
    "H38-authority": (request(line="GET example.com:80 HTTP/1.1"), 400, {}),
    "H38-fragment": (request(line="GET /chat#top HTTP/1.1"), 400, {}),
    "H38-relative": (request(line="GET chat HTTP/1.1"), 400, {}),
    # RFC 9112 3.2.4: the asterisk is a target of OPTIONS, which then is a method like others.
    "H38-OPTIONS-asterisk": (request(line="OPTIONS * HTTP/1.1"), 405, {"Allow": "GET"}),
    "H39-space": (request(line="GET /a b HTTP/1.1"), 400, {}),
    "H39-two-spaces": (request(line="GET  / HTTP/1.1"), 400, {}),
    "H39-trailing-space": (request(line="GET / HTTP/1.1 "), 400, {}),
    "H39-tab": (request(line="GET /a\tb HTTP/1.1"), 400, {}),
    "H39-NUL": (request(line="GET /a\x00b HTTP/1.1"), 400, {}),
    "H39-latin-1": (request(line="GET /\xe9 HTTP/1.1"), 400, {}),
    "H40-two": (b"\r\n\r\n" + GOOD, 400, {}),
    "H40-hundred": (b"\r\n" * 100 + GOOD, 400, {}),
    "H40-LF": (b"\n" + GOOD, 400, {}),
    "H40-CR": (b"\r" + GOOD, 400, {}),
    "H41-TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(200), 400, {}),
    "H41-zeros": (bytes(100), 400, {}),
    "H41-random": (hashlib.sha512(b"random").digest(), 400, {}),
    "H41-SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", 400, {}),
    "H41-SMTP": (b"EHLO example.com\r\n", 400, {}),
}

ACCEPTED = {
    "H9-ipv4": request(host="127.0.0.1"),
    "H9-ipv6": request(host="[::1]:80"),
    "H9-ipv6-zone": request(host="[fe80::1%25eth0]"),
    "H9-empty-port": request(host="a:"),
    "H9-percent": request(host="a%2db_c"),
    "H13-two-options": request(connection="keep-alive, Upgrade"),
    "H13-case": request(connection="uPGRADE", upgrade="WebSocket"),
    "H13-split-lines": request("Connection: Upgrade", connection="keep-alive"),
    "H13-empty-elements": request(connection=" ,, upgrade\t,", upgrade=",websocket,"),
    "H13-more-protocols": request(upgrade="h2c, websocket"),
    "H13-trailing-space": request(
        **{name: f"\t{value} \t" for name, value in FIELDS.items()},
    ),
    "H13-no-space": GOOD.replace(b": ", b":"),
    "H13-upper": GOOD.replace(b"Sec-WebSocket", b"SEC-WEBSOCKET").replace(b"Host", b"hOST"),
    # RFC 9110 2.5: a higher minor version is processed as the highest that is known.
    "H5-1.2": request(line="GET /chat HTTP/1.2"),
    "H20-zero": request("Content-Length: 0"),
    "H20-zeros": request("Content-Length:  000 "),
    "H23-longest": request(line=f"GET /{'a' * (8192 - 14)} HTTP/1.1"),
    "H24-longest-field": request(of_size(8192)),
    "H24-longest-field-first": GOOD.replace(b"\r\n", b"\r\n" + of_size(8192).encode() + b"\r\n", 1),
    "H24-longest-head": head_of_size(32 * 1024),
    "H25-128-fields": request(*[f"X-{i}: a" for i in range(123)]),
    "H25-128-same": request(*["X: a"] * 123),
    "H31-latin-1": request("X: " + "".join(map(chr, range(128, 256)))),
    "H31-cookie": request("Cookie: a=\xff"),
    "H32-empty-element": request("Sec-WebSocket-Protocol: chat, ,x,"),
    "H33-NEL": request("X: a\x85Y: b"),
    "H37-absolute": request(line="GET http://example.org/chat HTTP/1.1"),
    "H40-one": b"\r\n" + GOOD,
    "H51-unknown": request("Sec-WebSocket-Extensions: permessage-deflate; nonsense"),
    "H51-duplicate": request(
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; client_no_context_takeover"
    ),
    "H51-bits": request("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16"),
    "H52-server-8": request("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8"),
    "H53-quoted": request('Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits="10"'),
    "H53-many": request("Sec-WebSocket-Extensions: " + ", ".join(["permessage-deflate"] * 50)),
    "H54-syntax": request('Sec-WebSocket-Extensions: permessage-deflate; x="'),
    "H54-only-commas": request("Sec-WebSocket-Extensions: ,,;=,"),
}

ROWS = {**{name: row[0] for name, row in REJECTED.items()}, **ACCEPTED}
