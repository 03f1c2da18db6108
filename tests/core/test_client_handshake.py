"""The opening handshake of a client: its request, and responses that accept it or must not, RFC 6455 4."""

import base64

import pytest
import websockets.client
import websockets.http11
import websockets.server
import websockets.uri
from hypothesis import given
from hypothesis import strategies as st
from response_rows import ACCEPTED, GOOD, KEY, NONCE, URI, WRONG, cut, receive, response

from fastws import client_handshake
from fastws.client_handshake import USER_AGENT, ClientHandshake
from fastws.exceptions import InvalidHeader, InvalidStatus, NegotiationError
from fastws.handshake import Policy, ServerHandshake
from fastws.headers import Headers
from fastws.uri import WebSocketURI, parse_uri


@pytest.fixture(autouse=True)
def nonce(monkeypatch):
    monkeypatch.setattr(client_handshake.secrets, "token_bytes", lambda count: NONCE[:count])


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
