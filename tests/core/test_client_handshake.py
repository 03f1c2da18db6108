import base64
import itertools

import httptools
import pytest
import websockets.client
import websockets.http11
import websockets.server
import websockets.uri
from hypothesis import given
from hypothesis import strategies as st

from fastws import client_handshake
from fastws.client_handshake import USER_AGENT, ClientHandshake
from fastws.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    NegotiationError,
    SecurityError,
    TooManyHeaders,
)
from fastws.handshake import Policy, ServerHandshake
from fastws.headers import Headers, accept_key
from fastws.http11_responses import MAX_BODY, ResponseReader
from fastws.uri import WebSocketURI, parse_uri

NONCE = bytes(range(16))
KEY = base64.b64encode(NONCE)
ACCEPT = accept_key(KEY).decode()
URI = parse_uri("ws://localhost:8765/path?query")
GOOD = (
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
).encode()


@pytest.fixture(autouse=True)
def nonce(monkeypatch):
    monkeypatch.setattr(client_handshake.secrets, "token_bytes", lambda count: NONCE[:count])


def response(*fields, status="101 Switching Protocols", body=b""):
    """Return a response that accepts, but for the given fields: (name, value), None leaves it out."""
    merged = {"Upgrade": ["websocket"], "Connection": ["Upgrade"], "Sec-WebSocket-Accept": [ACCEPT]}
    for name, group in itertools.groupby(fields, lambda field: field[0]):
        merged[name] = [value for _, value in group if value is not None]
    lines = [f"{name}: {value}\r\n" for name, values in merged.items() for value in values]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode("latin-1") + body


def receive(pieces, *, eof=False, **options):
    """Return the handshake, and what it said: True, False, or (kind and text of) an exception."""
    handshake = ClientHandshake(URI, **options)
    try:
        done = False
        rest = b""
        for piece in pieces:
            if done:
                rest += piece
            else:
                done = handshake.receive_data(piece)
        if eof and not done:
            done = handshake.receive_eof()
        if done:
            handshake.check()
    except InvalidHandshake as error:
        return handshake, (type(error), str(error), type(error.__cause__))
    return handshake, (done, handshake.rest + rest if handshake.subprotocol is None else None)


def outcome(pieces, **options):
    handshake, said = receive(pieces, **options)
    return said, handshake.response


def cut(stream, at):
    edges = [0, *sorted({min(one, len(stream)) for one in at}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


# ---------------------------------------------------------------- the request


def test_request_has_the_fields_of_the_rfc_in_the_usual_order():
    handshake = ClientHandshake(
        parse_uri("ws://me:secret@localhost:8765/path?query"),
        origin="http://a",
        subprotocols=["chat", "superchat"],
        additional_headers=[("Cookie", "a=b"), ("Cookie", "c=d")],
    )
    assert handshake.request_bytes == handshake.head
    assert handshake.head.decode().split("\r\n") == [
        "GET /path?query HTTP/1.1",
        "Host: localhost:8765",
        "Authorization: Basic bWU6c2VjcmV0",
        "Origin: http://a",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY.decode()}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat, superchat",
        "Cookie: a=b",
        "Cookie: c=d",
        f"User-Agent: {USER_AGENT}",
        "",
        "",
    ]
    assert (handshake.request.path, handshake.request.method) == ("/path?query", "GET")
    assert handshake.head.endswith(handshake.request.headers.serialize())


def test_key_is_a_new_one_each_time(monkeypatch):
    monkeypatch.undo()
    keys = {ClientHandshake(URI).request.headers["Sec-WebSocket-Key"] for _ in range(50)}
    assert len(keys) == 50
    assert {len(base64.b64decode(key, validate=True)) for key in keys} == {16}


def test_user_agent_is_ours_or_theirs_or_none():
    assert USER_AGENT.startswith("Python/")
    assert ClientHandshake(URI).request.headers["User-Agent"] == USER_AGENT
    assert ClientHandshake(URI, user_agent_header="x").request.headers["User-Agent"] == "x"
    assert "User-Agent" not in ClientHandshake(URI, user_agent_header=None).request.headers
    own = ClientHandshake(URI, additional_headers={"user-agent": "mine"})
    assert own.request.headers.get_all("User-Agent") == ["mine"]


@pytest.mark.parametrize(
    "uri",
    ["ws://a", "ws://a:80/", "ws://a:81/b?c", "wss://a", "ws://[::1]/", "ws://u:p@[::1]:81", "ws://é/é"],
)
@pytest.mark.parametrize("subprotocols", [None, ["chat"], ["b", "a"]])
@pytest.mark.parametrize("origin", [None, "http://o"])
def test_request_is_that_of_websockets(uri, origin, subprotocols):
    ours = ClientHandshake(parse_uri(uri), origin=origin, subprotocols=subprotocols, user_agent_header=None)
    protocol = websockets.client.ClientProtocol(
        websockets.uri.parse_uri(uri), origin=origin, subprotocols=subprotocols
    )
    protocol.key = KEY.decode()
    assert ours.request_bytes == protocol.connect().serialize()


@pytest.mark.parametrize(
    "options",
    [
        {"origin": "a\r\nX: y"},
        {"origin": "a\0"},
        {"origin": "€"},
        {"user_agent_header": "a\nb"},
        {"additional_headers": {"X": "a\r\nY: b"}},
        {"additional_headers": {"X": "a\r"}},
        {"additional_headers": {"X": "a\0"}},
        {"additional_headers": {"X\r\nY": "a"}},
        {"additional_headers": {"X:": "a"}},
        {"additional_headers": {"": "a"}},
        {"subprotocols": ["a\r\nX: y"]},
        {"subprotocols": ["a b"]},
        {"subprotocols": ["a,b"]},
        {"subprotocols": [""]},
        {"subprotocols": ["é"]},
        {"subprotocols": ["a", "b", "a"]},
    ],
    ids=repr,
)
def test_what_cannot_stand_in_a_request_is_refused(options):
    with pytest.raises(ValueError):
        ClientHandshake(URI, **options)


@pytest.mark.parametrize(
    "name",
    ["host", "Upgrade", "Connection", "Sec-WebSocket-Key", "sec-websocket-version", "Content-Length",
     "transfer-encoding", "Sec-WebSocket-Extensions"],
)  # fmt: skip
def test_field_of_the_handshake_is_not_given_again(name):
    with pytest.raises(ValueError, match=f"field {name.lower()} is in additional_headers|field .* cannot"):
        ClientHandshake(URI, additional_headers={name: "1"})


def test_field_that_an_option_sets_is_not_given_again():
    for options, name in [
        ({"origin": "a"}, "Origin"),
        ({"subprotocols": ["a"]}, "Sec-WebSocket-Protocol"),
    ]:
        ClientHandshake(URI, additional_headers={name: "a"})
        with pytest.raises(ValueError, match="sets it itself"):
            ClientHandshake(URI, additional_headers={name: "a"}, **options)


def test_subprotocols_are_not_a_string():
    with pytest.raises(TypeError, match="'chat'"):
        ClientHandshake(URI, subprotocols="chat")


@pytest.mark.parametrize(
    "uri",
    [
        WebSocketURI(False, "a b", 80, "/", ""),
        WebSocketURI(False, "a\r\nX: y", 80, "/", ""),
        WebSocketURI(False, "é", 80, "/", ""),
        WebSocketURI(False, "", 80, "/", ""),
        WebSocketURI(False, "a", 80, "/ HTTP/1.1\r\nX: y", ""),
        WebSocketURI(False, "a", 80, "/a b", ""),
        WebSocketURI(False, "a", 80, "a", ""),
        WebSocketURI(False, "a", 80, "/#", ""),
        WebSocketURI(False, "a", 80, "/", "é"),
        WebSocketURI(False, "a", 80, "/", "\n"),
    ],
    ids=repr,
)
def test_uri_made_by_hand_is_judged_too(uri):
    with pytest.raises(ValueError, match=r"which is (neither|no) "):
        ClientHandshake(uri)


# ---------------------------------------------------------------- responses that accept

ACCEPTED = {
    "plain": GOOD,
    "any-case": response(("Upgrade", "WebSocket"), ("Connection", "keep-alive, UPGRADE")),
    "split-connection": response(("Connection", "keep-alive"), ("Connection", "upgrade")),
    "empty-elements": response(("Upgrade", ", websocket,"), ("Connection", ",Upgrade,")),
    "space": response(("Sec-WebSocket-Accept", f"\t {ACCEPT} \t")),
    "no-reason": response(status="101 "),
    "obs-text": response(("X", "é"), status="101 é"),
    "tab-in-reason": response(status="101 a\tb"),
    "other-fields": response(("Server", "x"), ("Date", "y"), ("X", "")),
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + GOOD,
    "interim-8": b"HTTP/1.1 100 \r\n\r\n" * 8 + GOOD,
    "fields-128": response(*[(f"X-{i}", "a") for i in range(125)]),
    "line-8k": response(("X", "a" * (8192 - 5))),
    "length-told": response(("Content-Length", "0")),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_good_response_is_accepted(data):
    handshake, said = receive([data])
    assert said == (True, b"")
    assert handshake.response.status_code == 101
    assert handshake.response.body == b""


def test_response_is_what_came():
    handshake, _ = receive([response(("X", " a "), ("X", "b"), status="101 Fine")])
    got = handshake.response
    assert (got.status_code, got.reason_phrase, got.headers.get_all("x")) == (101, "Fine", ["a", "b"])
    assert [name for name, _ in got.headers.raw_items()] == [
        "Upgrade", "Connection", "Sec-WebSocket-Accept", "X", "X",
    ]  # fmt: skip


def test_nothing_is_known_before_the_head_is_complete():
    handshake = ClientHandshake(URI)
    assert handshake.receive_data(GOOD[:-1]) is False
    assert handshake.response is None
    assert handshake.rest == b""
    assert handshake.receive_data(GOOD[-1:]) is True


@given(st.binary(max_size=50), st.lists(st.integers(0, len(GOOD) + 50), max_size=20))
def test_frames_behind_the_head_are_kept_in_any_split(rest, at):
    handshake, said = receive(cut(GOOD + rest, at))
    assert said == (True, rest)
    assert handshake.response.headers["Upgrade"] == "websocket"


@pytest.mark.parametrize("chosen", ["chat", " superchat "])
def test_subprotocol_is_the_one_chosen(chosen):
    data = response(("Sec-WebSocket-Protocol", chosen))
    handshake, _ = receive([data], subprotocols=["chat", "superchat"])
    assert handshake.subprotocol == chosen.strip()


def test_server_may_choose_no_subprotocol():
    handshake, said = receive([GOOD], subprotocols=["chat"])
    assert (said, handshake.subprotocol) == ((True, b""), None)


# ---------------------------------------------------------------- responses that do not

WRONG = {
    "no-connection": (response(("Connection", None)), InvalidUpgrade, "field Connection is missing"),
    "connection": (response(("Connection", "close")), InvalidUpgrade, "Connection is not valid: close"),
    "no-upgrade": (response(("Upgrade", None)), InvalidUpgrade, "field Upgrade is missing"),
    "upgrade": (response(("Upgrade", "h2c")), InvalidUpgrade, "Upgrade is not valid: h2c"),
    "upgrade-empty": (response(("Upgrade", "")), InvalidUpgrade, "field Upgrade is empty"),
    "upgrades": (response(("Upgrade", "websocket, h2c")), InvalidUpgrade, "websocket, h2c"),
    "upgrade-twice": (
        response(("Upgrade", "websocket"), ("Upgrade", "websocket")),
        InvalidUpgrade,
        "websocket, websocket",
    ),
    "no-accept": (response(("Sec-WebSocket-Accept", None)), InvalidHeader, "Accept is missing"),
    "accept-empty": (response(("Sec-WebSocket-Accept", "")), InvalidHeaderValue, "Accept is empty"),
    "accept": (response(("Sec-WebSocket-Accept", "x")), InvalidHeaderValue, "Accept is not valid: x"),
    "accept-case": (
        response(("Sec-WebSocket-Accept", ACCEPT.swapcase())),
        InvalidHeaderValue,
        "Accept is not valid",
    ),
    "accept-key": (
        response(("Sec-WebSocket-Accept", KEY.decode())),
        InvalidHeaderValue,
        "Accept is not valid",
    ),
    "accept-twice": (
        response(("Sec-WebSocket-Accept", ACCEPT), ("Sec-WebSocket-Accept", ACCEPT)),
        InvalidHeaderValue,
        f"{ACCEPT}, {ACCEPT}",
    ),
    "extension": (
        response(("Sec-WebSocket-Extensions", "permessage-deflate")),
        NegotiationError,
        "'permessage-deflate', none is offered",
    ),
    "extension-empty": (response(("Sec-WebSocket-Extensions", "")), NegotiationError, "''"),
    "subprotocol": (response(("Sec-WebSocket-Protocol", "x")), NegotiationError, "'x', offered is chat"),
    "subprotocol-case": (response(("Sec-WebSocket-Protocol", "Chat")), NegotiationError, "'Chat'"),
    "subprotocol-empty": (response(("Sec-WebSocket-Protocol", "")), NegotiationError, "allowed is one"),
    "subprotocols": (
        response(("Sec-WebSocket-Protocol", "chat, superchat")),
        NegotiationError,
        "'chat, superchat', allowed is one",
    ),
    "subprotocol-twice": (
        response(("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Protocol", "chat")),
        NegotiationError,
        "allowed is one",
    ),
}


@pytest.mark.parametrize(("data", "kind", "text"), WRONG.values(), ids=WRONG)
def test_response_that_breaks_a_rule_of_the_rfc_is_refused(data, kind, text):
    handshake, (got, why, _) = receive([data], subprotocols=["chat", "superchat"])
    assert got is kind
    assert text in why
    assert handshake.subprotocol is None
    assert handshake.response is not None


def test_subprotocol_is_refused_when_none_is_offered():
    _, (got, why, _) = receive([response(("Sec-WebSocket-Protocol", "x"))])
    assert (got, "offered is none" in why) == (NegotiationError, True)


@pytest.mark.parametrize(("data", "kind", "text"), WRONG.values(), ids=WRONG)
def test_websockets_refuses_the_same_with_the_same_exception(data, kind, text):
    protocol = websockets.client.ClientProtocol(
        websockets.uri.parse_uri("ws://localhost:8765/path?query"), subprotocols=["chat", "superchat"]
    )
    protocol.key = KEY.decode()
    protocol.send_request(protocol.connect())
    protocol.receive_data(data)
    theirs = type(protocol.handshake_exc)
    assert theirs.__name__ != "NoneType"
    if "Subprotocol" not in text and "allowed is one" not in text:
        # Theirs tells several values by InvalidHeader, and an empty one by InvalidHeaderFormat.
        assert issubclass(theirs, websockets.InvalidHeader) == issubclass(kind, InvalidHeader)
        assert issubclass(theirs, websockets.NegotiationError) == issubclass(kind, NegotiationError)


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


# ---------------------------------------------------------------- with the server's side


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("subprotocols", [None, ["chat"], ["x", "chat"]])
def test_our_server_and_our_client_agree(subprotocols, split):
    client = ClientHandshake(URI, subprotocols=subprotocols, origin="http://o")
    server = ServerHandshake(Policy(subprotocols=["chat"] if subprotocols else None, origins=["http://o"]))
    assert server.receive_data(client.request_bytes)
    assert server.request.headers == client.request.headers
    answer = server.accept_bytes()
    assert [client.receive_data(part) for part in cut(answer, [40] if split else [])][-1]
    client.check()
    assert client.subprotocol == server.subprotocol == ("chat" if subprotocols else None)


@pytest.mark.parametrize("subprotocols", [None, ["chat"], ["x", "chat"]])
def test_server_of_websockets_and_our_client_agree(subprotocols):
    client = ClientHandshake(URI, subprotocols=subprotocols, additional_headers=Headers(X="é"))
    server = websockets.server.ServerProtocol(subprotocols=["chat"] if subprotocols else None)
    server.receive_data(client.request_bytes)
    (request,) = server.events_received()
    server.send_response(server.accept(request))
    assert client.receive_data(b"".join(server.data_to_send()))
    client.check()
    assert client.subprotocol == server.subprotocol == ("chat" if subprotocols else None)


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 500, 503])
def test_refusal_of_websockets_is_read(status):
    client = ClientHandshake(URI)
    server = websockets.server.ServerProtocol()
    server.receive_data(client.request_bytes)
    server.send_response(server.reject(status, "No.\n"))
    assert client.receive_data(b"".join(server.data_to_send()))
    with pytest.raises(InvalidStatus, match=f"status {status}") as caught:
        client.check()
    assert caught.value.response.body == b"No.\n"


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_websockets_accepts_what_we_accept(data):
    protocol = websockets.client.ClientProtocol(websockets.uri.parse_uri("ws://localhost"))
    protocol.key = KEY.decode()
    protocol.send_request(protocol.connect())
    protocol.receive_data(data)
    if data.startswith(b"HTTP/1.1 100"):
        # Theirs takes an interim response for the answer, which RFC 9110 15.2 forbids.
        assert isinstance(protocol.handshake_exc, websockets.InvalidStatus)
    else:
        assert protocol.handshake_exc is None


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
