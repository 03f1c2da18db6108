import base64
import gc
import hashlib
import re
import string

import pytest
from handshake_rows import (
    ACCEPT,
    ACCEPTED,
    DEFAULT,
    FIELDS,
    GOOD,
    REJECTED,
    ROWS,
    answer,
    answer_to,
    cut,
    head_of_size,
    parse_response,
    request,
    single_bytes,
)
from hypothesis import example, given
from hypothesis import strategies as st

from fastws import http11
from fastws.exceptions import (
    HeaderLineTooLong,
    InvalidMessage,
    InvalidOrigin,
    InvalidUpgrade,
    RequestLineTooLong,
    SecurityError,
    TooManyHeaders,
)
from fastws.handshake import SERVER_HEADER, Policy, Rejected, ServerHandshake, rejection
from fastws.http11 import HeadReader


@pytest.mark.parametrize(("data", "status", "headers"), REJECTED.values(), ids=REJECTED)
def test_bad_request_is_rejected(data, status, headers):
    got = answer_to(data)
    assert got is not None
    assert got.status == status
    assert {name: got.headers.get(name) for name in headers} == headers
    assert "close" in got.headers["Connection"]
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert got.headers["Server"] == SERVER_HEADER
    if data.startswith(b"HEAD"):
        assert got.body == b""
    else:
        assert got.body.endswith(b".\n")
        assert got.headers["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_good_request_is_accepted(data):
    got = answer_to(data)
    assert got is not None
    assert got.why == ""
    assert got.status == 101
    assert sorted(got.headers.raw_items()) == [
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", ACCEPT),
        ("Server", SERVER_HEADER),
        ("Upgrade", "websocket"),
    ]
    assert got.body == b""
    assert got.head == data.removeprefix(b"\r\n")


@given(st.sampled_from(sorted(ROWS)), st.lists(st.integers(0, 70000), max_size=30))
def test_any_split_of_a_request_gives_the_same_answer(row, cuts):
    assert answer(cut(ROWS[row], cuts)) == answer([ROWS[row]])


@given(st.binary(max_size=60), st.lists(st.integers(0, 1000), max_size=30))
def test_any_split_gives_the_same_rest(rest, cuts):
    got = answer(cut(GOOD + rest, cuts))
    assert (got.status, got.rest) == (101, rest)


@pytest.mark.parametrize(
    ("prefix", "last"),
    [
        pytest.param(b"", b"\x16", id="H41-TLS"),
        pytest.param(b"", b"\x00", id="H41-zeros"),
        pytest.param(b"GET /", b"\xe9", id="H39-non-ASCII"),
        pytest.param(b"GET / HTTP/1.1", b"\n", id="H30-bare-LF"),
        pytest.param(b"GET / HTTP/1.1\r", b"H", id="H30-bare-CR"),
        pytest.param(b"GET /" + b"a" * 8187, b"a", id="H23"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 8189, b"a", id="H24"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 128 + b"X: a\r", b"\n", id="H25"),
        pytest.param(b"PRI * HTTP/2.0\r", b"\n", id="H6"),
        pytest.param(b"\r\n\r", b"\n", id="H40"),
    ],
)
def test_a_fault_is_judged_at_the_first_byte_that_shows_it(prefix, last):
    assert answer_to(prefix) is None
    assert answer_to(prefix + last).status >= 400


@pytest.mark.parametrize("end", range(0, len(GOOD), 7))
def test_H43_partial_request_waits(end):
    assert answer_to(GOOD[:end]) is None


def test_H45_dropped_request_leaves_nothing_behind():
    gc.collect()
    gc.disable()
    try:
        for data in (GOOD[:-1], GOOD[:50], GOOD, REJECTED["H28-name"][0], REJECTED["H24-total"][0]):
            answer(single_bytes(data))
            answer([data])
        kinds = (ServerHandshake, HeadReader)
        assert not [found for found in gc.get_objects() if isinstance(found, kinds)]
    finally:
        gc.enable()


# ---------------------------------------------------------------- cost


class CountingBuffer(bytearray):
    """A buffer that counts the bytes that are looked at or copied."""

    work = 0

    def find(self, what, start=0):
        found = super().find(what, start)
        CountingBuffer.work += (found if found >= 0 else len(self)) - start + 1
        return found

    def __getitem__(self, index):
        found = super().__getitem__(index)
        CountingBuffer.work += len(found) if isinstance(index, slice) else 1
        return found


class CountingPattern:
    def __init__(self, pattern):
        self.pattern = pattern

    def search(self, buffer, start, stop):
        CountingBuffer.work += stop - start + 1
        return self.pattern.search(buffer, start, stop)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head_of_size(32 * 1024), id="longest"),
        pytest.param(REJECTED["H24-total"][0], id="H24-total"),
        pytest.param(REJECTED["H24-endless"][0], id="H24-endless"),
        pytest.param(request(*["X: a"] * 123), id="H25-most"),
        pytest.param(REJECTED["H25-endless"][0], id="H25-endless"),
        pytest.param(b"GET /" + b"a" * 8000, id="H23-unfinished"),
    ],
)
def test_H26_work_for_single_bytes_is_linear(data, monkeypatch):
    monkeypatch.setattr(http11, "bytearray", CountingBuffer, raising=False)
    for name in ("BAD_IN_REQUEST_LINE", "BAD_IN_FIELD_LINE"):
        monkeypatch.setattr(http11, name, CountingPattern(getattr(http11, name)))
    CountingBuffer.work = 0
    answer(single_bytes(data))
    assert 0 < CountingBuffer.work < 12 * len(data)


# ---------------------------------------------------------------- what is behind the head


def test_H47_frames_behind_the_request_are_kept():
    frames = bytes.fromhex("818000000000") + b"\xff\xff"
    got = answer_to(GOOD + frames)
    assert (got.status, got.rest, got.head) == (101, frames, GOOD)


def test_H48_second_request_is_not_parsed():
    got = answer_to(GOOD + GOOD + GOOD)
    assert (got.status, got.rest) == (101, GOOD + GOOD)


def test_H48_what_follows_a_rejected_request_is_not_parsed():
    page = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert answer_to(page + GOOD) == answer_to(page)


# ---------------------------------------------------------------- order


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(request(line="POST / HTTP/1.1", without=["Host"]), 400, id="host-before-method"),
        pytest.param(request("Content-Length: 1", line="POST / HTTP/1.1"), 400, id="body-before-method"),
        pytest.param(request(line="POST / HTTP/1.0"), 405, id="method-before-version"),
        pytest.param(request(line="POST / HTTP/1.1", upgrade="h2c"), 405, id="method-before-upgrade"),
        pytest.param(request(upgrade="h2c", sec_websocket_key=""), 426, id="upgrade-before-key"),
        pytest.param(request(connection="close", sec_websocket_key=""), 426, id="connection-before-key"),
        pytest.param(request("Origin: http://b", sec_websocket_key=""), 400, id="key-before-origin"),
        pytest.param(
            request("Origin: http://b", "Sec-WebSocket-Protocol: "), 400, id="subprotocol-before-origin"
        ),
        pytest.param(
            request("Origin: http://b", "Sec-WebSocket-Protocol: x"), 403, id="origin-before-choice"
        ),
    ],
)
def test_rules_are_judged_in_order(data, status):
    assert answer_to(data, Policy(origins=["http://a"], subprotocols=["chat"])).status == status


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"OPTIONS / HTTP/1.0\r\n\r\n", id="H4"),
        pytest.param(b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n", id="H1"),
        pytest.param(b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", id="H2"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", id="H10"),
    ],
)
def test_hooks_see_any_valid_request(data):
    for pieces in ([data], single_bytes(data)):
        handshake = ServerHandshake(DEFAULT)
        assert [handshake.receive_data(piece) for piece in pieces][-1] is True
        method, path, protocol = data.split(b"\r\n")[0].decode().split(" ")
        got = handshake.request
        assert (got.method, got.path, got.protocol, got.version) == (method, path, protocol, protocol[5:])
        assert handshake.request is got


def test_hook_answer_to_HEAD_has_no_body():
    handshake = ServerHandshake(DEFAULT)
    handshake.receive_data(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    reply = handshake.serialize(rejection(200, "fine"))
    status, headers, body = parse_response(reply)
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


# ---------------------------------------------------------------- request


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        ("/chat?x=1", "/chat?x=1", "example.com:8765"),
        ("/u?next=http://x/", "/u?next=http://x/", "example.com:8765"),
        ("http://example.org/chat?x=1", "/chat?x=1", "example.org"),
        ("wss://example.org:1/", "/", "example.org:1"),
        ("HTTP://example.org", "/", "example.org"),
        ("http://[::1]:5?x", "/?x", "[::1]:5"),
    ],
)
def test_H37_host_of_an_absolute_target_wins(target, path, host):
    data = request("X: a", "x:b ", line=f"GET {target} HTTP/1.1")
    assert answer_to(data).status == 101
    handshake = ServerHandshake(DEFAULT)
    handshake.receive_data(data)
    got = handshake.request
    assert (got.path, got.headers.get_all("host")) == (path, [host])
    assert got.headers.get_all("x") == ["a", "b"]


def test_H31_request_shows_latin_1():
    handshake = ServerHandshake(DEFAULT)
    handshake.receive_data(request("X: a\x85\xff"))
    assert handshake.request.headers["X"] == "a\x85\xff"


# ---------------------------------------------------------------- the answer


@pytest.mark.parametrize(
    "options",
    [{}, {"server_header": None}, {"subprotocols": ["chat"]}],
    ids=["plain", "no-server", "subprotocol"],
)
def test_accept_and_accept_bytes_say_the_same(options):
    replies = []
    for accept in (ServerHandshake.accept_bytes, ServerHandshake.accept):
        handshake = ServerHandshake(Policy(**options))
        handshake.receive_data(request("Sec-WebSocket-Protocol: chat"))
        reply = accept(handshake)
        replies.append(reply if isinstance(reply, bytes) else handshake.serialize(reply))
        assert reply is not None
    (status, headers, body), other = map(parse_response, replies)
    assert other == (status, headers, body)
    assert status == 101
    assert all(b"\r\nDate: " in reply for reply in replies)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (REJECTED["H10-missing"][0], InvalidUpgrade),
        (REJECTED["H23-endless"][0], RequestLineTooLong),
        (REJECTED["H24-endless"][0], HeaderLineTooLong),
        (REJECTED["H24-total"][0], SecurityError),
        (REJECTED["H25-129-same"][0], TooManyHeaders),
        (REJECTED["H28-name"][0], InvalidMessage),
    ],
)
def test_rejection_has_a_cause_that_names_the_fault(data, cause):
    with pytest.raises(Rejected) as caught:
        ServerHandshake(DEFAULT).receive_data(data)
        handshake = ServerHandshake(DEFAULT)
        handshake.receive_data(data)
        handshake.accept_bytes()
    assert type(caught.value.__cause__) is cause
    assert str(caught.value) == str(caught.value.__cause__)


def test_rejected_origin_is_named():
    handshake = ServerHandshake(Policy(origins=[]))
    handshake.receive_data(request("Origin: http://evil"))
    with pytest.raises(Rejected, match="http://evil") as caught:
        handshake.accept()
    assert isinstance(caught.value.__cause__, InvalidOrigin)


def test_rejection_is_plain_text_that_ends_with_a_newline():
    response = rejection(503, "Später", [("Retry-After", "5")])
    assert response.body == "Später\n".encode()
    assert response.reason_phrase == "Service Unavailable"
    assert dict(response.headers) == {
        "retry-after": "5",
        "content-type": "text/plain; charset=utf-8",
        "content-length": "8",
        "connection": "close",
    }
    assert rejection(200, "a\n").body == b"a\n"


# ---------------------------------------------------------------- properties


@given(st.lists(st.binary(max_size=200), max_size=20))
@example([b"GET / HTTP/1.1\r\nHost: \xff"])
def test_arbitrary_bytes_are_rejected_or_wait(pieces):
    got = answer(pieces)
    assert got == answer([b"".join(pieces)])
    assert got is None or got.status != 101


OWS = st.text(" \t", max_size=3)
ANY_CASE = st.sampled_from([str.lower, str.upper, str.title, str.swapcase])
TOKENS = st.text("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits, min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
OPTION_LISTS = st.lists(st.sampled_from(["", "keep-alive", "x", "h2c"]), max_size=4)


@st.composite
def good_requests(draw):
    """Requests that keep every rule."""
    names = {name.lower() for name in FIELDS} | {"content-length", "transfer-encoding", "origin"}
    fields = []
    for name, value in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=8)):
        if name.lower() not in names and not name.lower().startswith("sec-websocket"):
            fields.append((name, value))
    key = base64.b64encode(draw(st.binary(min_size=16, max_size=16))).decode()
    for name, option in (("Upgrade", "websocket"), ("Connection", "upgrade")):
        options = [*draw(OPTION_LISTS), draw(ANY_CASE)(option), *draw(OPTION_LISTS)]
        fields.append((name, ",".join(draw(OWS) + one + draw(OWS) for one in options)))
    host = draw(st.sampled_from(["a", "a:1", "[::1]:1", "127.0.0.1"]))
    fields += [("Host", host), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
    lines = [
        f"{draw(ANY_CASE)(name)}:{draw(OWS)}{value}{draw(OWS)}"
        for name, value in draw(st.permutations(fields))
    ]
    path = draw(
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30)
    )
    return "\r\n".join([f"GET /{path} HTTP/1.1", *lines, "", ""]).encode("latin-1"), key


@given(good_requests())
def test_every_request_that_keeps_the_rules_is_accepted(made):
    data, key = made
    got = answer_to(data)
    assert (got.status, got.why) == (101, "")
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert got.headers["Sec-WebSocket-Accept"] == base64.b64encode(digest).decode()


def keeps_the_rules(head):
    """The rules once more, in the plainest way; no limit on sizes, a Host with no IPv6 address."""
    text = head.decode("latin-1")
    line, *lines = text[:-4].split("\r\n")
    values = {}
    for one in lines:
        assert re.fullmatch(r"[!#-'*+\-.0-9A-Z^-z|~]+:[\t\x20-\x7e\x80-\xff]*", one)
        name, _, value = one.partition(":")
        values.setdefault(name.lower(), []).append(value.strip(" \t"))
    assert re.fullmatch(r"GET (/|https?://[\w.:]+)[!-\"$-~]* HTTP/1\.[1-9]", line, re.ASCII | re.IGNORECASE)
    (host,) = values["host"]
    assert re.fullmatch(r"[\w\-.~!$&'()*+,;=%]+(:\d*)?", host, re.ASCII)
    (key,) = values["sec-websocket-key"]
    assert len(base64.b64decode(key, validate=True)) == 16
    assert values["sec-websocket-version"] == ["13"]
    for name, option in (("upgrade", "websocket"), ("connection", "upgrade")):
        assert option in [one.strip(" \t").lower() for value in values[name] for one in value.split(",")]
    assert "transfer-encoding" not in values
    assert not int("".join(values.get("content-length", ["0"])))
    assert len(values.get("origin", [])) <= 1


EDITS = st.tuples(
    st.integers(0, 400),
    st.integers(0, 3),
    st.one_of(
        st.binary(max_size=2),
        st.sampled_from([b"\r\n", b": ", b"\r\nHost: a", b"\r\nContent-Length: 0", b"\r\nOrigin: b", b"\t"]),
    ),
)


@given(st.lists(EDITS, min_size=1, max_size=3), st.lists(st.integers(0, 400), max_size=10))
def test_every_accepted_request_keeps_the_rules(edits, cuts):
    data = request("Origin: http://a", "Content-Length: 0")
    for position, removed, inserted in edits:
        position %= len(data)
        data = data[:position] + inserted + data[position + removed :]
    got = answer([data])
    assert answer(cut(data, cuts)) == got
    if got is not None and got.status == 101:
        keeps_the_rules(got.head)


def test_short_way_takes_nothing_that_the_long_way_does_not():
    data = request("X: a", "Accept: */*")
    for position in range(len(data)):
        for byte in b"\x00\t\n\r :,#/\x7f\x80":
            for changed in (
                data[:position] + bytes([byte]) + data[position + 1 :],
                data[:position] + bytes([byte]) + data[position:],
            ):
                # A first piece without the head's end goes the long way.
                assert answer([changed]) == answer([changed[:4], changed[4:]])
