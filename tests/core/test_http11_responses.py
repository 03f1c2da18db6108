"""Reading the response to a client, RFC 9112: what is none, bodies, any split, and answers to CONNECT."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from response_rows import ACCEPTED, GOOD, NONCE, URI, WRONG, cut, outcome, receive

from fastws import client_handshake
from fastws.client_handshake import ClientHandshake
from fastws.exceptions import HeaderLineTooLong, InvalidMessage, InvalidStatus, SecurityError, TooManyHeaders
from fastws.http11_responses import MAX_BODY, ResponseReader


@pytest.fixture(autouse=True)
def nonce(monkeypatch):
    monkeypatch.setattr(client_handshake.secrets, "token_bytes", lambda count: NONCE[:count])


# ---------------------------------------------------------------- responses that are none

LONG_FIELD = b"X: " + b"a" * 8190 + b"\r\n"
MALFORMED = {
    "not-HTTP": (b"SSH-2.0-OpenSSH\r\n", None),
    "TLS": (b"\x15\x03\x01", None),
    "version-1.0": (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), None),
    "version-2": (GOOD.replace(b"HTTP/1.1", b"HTTP/2.0"), None),
    "version-case": (GOOD.replace(b"HTTP/1.1", b"http/1.1"), None),
    "status-2-digits": (b"HTTP/1.1 10 x\r\n\r\n", None),
    "status-4-digits": (b"HTTP/1.1 1010 x\r\n\r\n", None),
    "status-0": (b"HTTP/1.1 099 x\r\n\r\n", None),
    "status-600": (b"HTTP/1.1 600 x\r\n\r\n", None),
    "no-space": (b"HTTP/1.1 101\r\n\r\n", None),
    "two-spaces": (b"HTTP/1.1  101 x\r\n\r\n", None),
    "empty-line-before": (b"\r\n" + GOOD, None),
    "NUL-in-reason": (b"HTTP/1.1 101 \0\r\n", None),
    "bare-LF": (GOOD.replace(b"\r\n", b"\n"), None),
    "bare-LF-in-field": (GOOD.replace(b"websocket\r\n", b"websocket\n"), None),
    "bare-CR": (GOOD.replace(b"websocket\r\n", b"websocket\r"), None),
    "NUL-in-value": (GOOD.replace(b"websocket\r\n", b"websocket\0\r\n"), None),
    "no-colon": (b"HTTP/1.1 200 OK\r\nX\r\n\r\n", None),
    "no-name": (b"HTTP/1.1 200 OK\r\n: a\r\n\r\n", None),
    "space-before-colon": (GOOD.replace(b"Upgrade:", b"Upgrade :"), None),
    "space-before-name": (GOOD.replace(b"Upgrade:", b" Upgrade:"), None),
    "name": (GOOD.replace(b"Upgrade:", b"Upgr\xe9de:"), None),
    "folding": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", None),
    "folding-tab": (b"HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\n\r\n", None),
    "status-line-too-long": (b"HTTP/1.1 101 " + b"a" * 8180, SecurityError),
    "field-too-long": (GOOD[:-2] + LONG_FIELD, HeaderLineTooLong),
    "head-too-big": (GOOD[:-2] + b"X: a" + b"a" * 4000 + (b"\r\nX: " + b"a" * 4000) * 8, SecurityError),
    "too-many-fields": (GOOD[:-2] + b"X: a\r\n" * 126, TooManyHeaders),
    "too-many-interim": (b"HTTP/1.1 100 \r\n\r\n" * 9, SecurityError),
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n", None),
    "length-signed": (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", None),
    "lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", None),
    "length-and-coding": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        None,
    ),
    "coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", None),
    "chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", None),
    "chunk-end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", None),
    "body-told-too-big": (b"HTTP/1.1 404 x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), SecurityError),
    "body-too-big": (b"HTTP/1.1 404 x\r\n\r\n" + bytes(MAX_BODY + 1), SecurityError),
    "chunks-too-big": (
        b"HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%s\r\n" % bytes(65536) * 17,
        SecurityError,
    ),
}


@pytest.mark.parametrize(("data", "cause"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_response_is_refused(data, cause):
    handshake, (got, _, why) = receive([data])
    assert got is InvalidMessage
    if cause is not None:
        assert why is cause
    assert handshake.response is None


def test_parser_is_the_cause_of_what_it_found():
    handshake = ClientHandshake(URI)
    with pytest.raises(InvalidMessage) as caught:
        handshake.receive_data(MALFORMED["length"][0])
    assert isinstance(caught.value.__cause__, httptools.HttpParserError)


@pytest.mark.parametrize("row", ["body-told-too-big", "body-too-big"])
def test_too_big_a_body_is_told_with_its_status(row):
    _, (_, text, _) = receive([MALFORMED[row][0]])
    assert "status 404" in text
    assert f"limit is {MAX_BODY} bytes" in text


# ---------------------------------------------------------------- bodies

PLAIN = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 503 x\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n"
BODIES = {
    "length": (PLAIN, False, b"hello"),
    "length-and-more": (PLAIN + b"HTTP/1.1 200 OK\r\n\r\n", False, b"hello"),
    "length-and-close": (
        PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"more",
        False,
        b"hello",
    ),
    "length-0": (b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n", False, b""),
    "length-0-and-more": (b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\nmore", False, b""),
    "chunked": (CHUNKED, False, b"hello"),
    "chunked-and-more": (CHUNKED + b"\x81\x00", False, b"hello"),
    "to-the-end": (b"HTTP/1.1 200 OK\r\n\r\nhello", True, b"hello"),
    "to-the-end-empty": (b"HTTP/1.1 200 OK\r\n\r\n", True, b""),
    "to-the-end-full": (b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * MAX_BODY, True, b"a" * MAX_BODY),
    "length-full": (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MAX_BODY + b"a" * MAX_BODY,
        False,
        b"a" * MAX_BODY,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", False, b""),
    "304": (b"HTTP/1.1 304 x\r\nContent-Length: 99999999\r\n\r\n", False, b""),
    "upgrade-in-426": (
        b"HTTP/1.1 426 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello",
        False,
        b"hello",
    ),
    "interim": (b"HTTP/1.1 102 x\r\n\r\n" + PLAIN, False, b"hello"),
}


@pytest.mark.parametrize(("data", "eof", "body"), BODIES.values(), ids=BODIES)
def test_response_that_is_not_101_is_read_with_its_body(data, eof, body):
    handshake, (got, _, _) = receive([data], eof=eof)
    assert got is InvalidStatus
    assert handshake.response.body == body
    assert handshake.rest == b""
    assert "X" not in handshake.response.headers


@pytest.mark.parametrize("data", [PLAIN, CHUNKED, BODIES["upgrade-in-426"][0]])
def test_response_waits_for_its_body(data):
    handshake = ClientHandshake(URI)
    for byte in data[:-1]:
        assert handshake.receive_data(bytes([byte])) is False
        assert handshake.response is None
    assert handshake.receive_data(data[-1:]) is True


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1", GOOD[:-1], PLAIN[:-1], CHUNKED[:-1], b"HTTP/1.1 100 Continue\r\n\r\n"]
)
def test_end_within_a_response_is_told_as_such(data):
    _, (got, text, cause) = receive([data], eof=True)
    assert (got, cause) == (InvalidMessage, EOFError)
    assert "the connection ended within" in text


def test_end_behind_a_response_changes_nothing():
    handshake, _ = receive([GOOD])
    before = handshake.response
    assert handshake.receive_eof() is True
    assert handshake.response is before


# ---------------------------------------------------------------- splits

ALL = {
    **{name: (data, True) for name, data in ACCEPTED.items()},
    **{f"wrong-{name}": (data, True) for name, (data, *_) in WRONG.items()},
    **{f"malformed-{name}": (data, True) for name, (data, _) in MALFORMED.items()},
    **{f"body-{name}": (data, eof) for name, (data, eof, _) in BODIES.items()},
}
SMALL = [name for name, (data, _) in ALL.items() if len(data) < 1000]


@pytest.mark.parametrize("row", SMALL)
def test_every_split_in_two_gives_the_same(row):
    data, eof = ALL[row]
    whole = outcome([data], eof=eof)
    assert outcome([data[i : i + 1] for i in range(len(data))], eof=eof) == whole
    for at in range(len(data) + 1):
        assert outcome([data[:at], data[at:]], eof=eof) == whole


@given(st.sampled_from(sorted(ALL)), st.lists(st.integers(0, MAX_BODY + 100), max_size=20))
def test_any_split_gives_the_same(row, at):
    data, eof = ALL[row]
    at = [one % (len(data) + 1) for one in at]
    assert outcome(cut(data, at), eof=eof) == outcome([data], eof=eof)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_any_bytes_are_judged_alike_in_any_split(tail, at):
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        assert outcome(cut(start + tail, at), eof=True) == outcome([start + tail], eof=True)


# ---------------------------------------------------------------- answers to CONNECT


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("status", [200, 204, 299, 403, 407, 502])
def test_answer_to_connect_ends_with_its_head(version, status):
    reader = ResponseReader(to_connect=True)
    assert reader.receive_data(f"HTTP/{version} {status} x\r\nContent-Length: 9\r\n\r\nrest".encode())
    assert (reader.response.status_code, reader.response.body, reader.rest) == (status, b"", b"rest")


def test_answer_to_connect_has_a_version_too():
    with pytest.raises(InvalidMessage, match=r"HTTP/2\.0, allowed is HTTP/1\.1 and HTTP/1\.0"):
        ResponseReader(to_connect=True).receive_data(b"HTTP/2.0 200 OK\r\n")
