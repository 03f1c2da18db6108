"""What a server may ask of requests beside the protocol: origins, subprotocols, limits."""

import re

import pytest
from handshake_rows import (
    DEFAULT,
    GOOD,
    answer_to,
    of_size,
    parse_response,
    request,
)

from fastws.exceptions import (
    NegotiationError,
)
from fastws.handshake import SERVER_HEADER, Policy, Rejected, ServerHandshake
from fastws.headers import Headers
from fastws.http11 import Response

A, B, NONE = "Origin: http://a", "Origin: http://b.example", ()


@pytest.mark.parametrize(
    ("origins", "fields", "status"),
    [
        (None, (), 101),
        (None, (B,), 101),
        ([], (A,), 403),
        (["http://a"], (A,), 101),
        (["http://a"], ("Origin:\thttp://a ",), 101),
        (["http://a"], (B,), 403),
        (["http://a"], ("Origin: http://A",), 403),
        (["http://a"], ("Origin:",), 403),
        (["http://a"], (), 403),
        (["http://a", None], (), 101),
        ([None], (A,), 403),
        (["null"], ("Origin: null",), 101),
        ([re.compile(r"http://\w+\.example")], (B,), 101),
        ([re.compile(r"http://\w+\.example")], ("Origin: http://b.example.evil",), 403),
        ([re.compile(r"http://\w+\.example")], ("Origin: evil http://b.example",), 403),
        ([re.compile(r".*")], (), 403),
        (["http://a"], (A, A), 400),
        (None, (A, B), 400),
    ],
)
def test_H36_origin_is_judged(origins, fields, status):
    assert answer_to(request(*fields), Policy(origins=origins)).status == status


@pytest.mark.parametrize(
    ("ours", "offered", "chosen"),
    [
        (None, "chat", None),
        ([], "chat", None),
        (["chat"], "chat", "chat"),
        (["b", "a"], "a, b", "b"),
        (["chat"], "superchat, ,chat", "chat"),
    ],
)
def test_first_of_our_subprotocols_that_is_offered_is_chosen(ours, offered, chosen):
    got = answer_to(request(f"Sec-WebSocket-Protocol: {offered}"), Policy(subprotocols=ours))
    assert (got.status, got.subprotocol, got.headers.get("Sec-WebSocket-Protocol")) == (101, chosen, chosen)


def test_offers_on_several_lines_are_one_list():
    data = request("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b")
    assert answer_to(data, Policy(subprotocols=["b"])).subprotocol == "b"


@pytest.mark.parametrize(
    "fields", [(), ("Sec-WebSocket-Protocol: other",), ("Sec-WebSocket-Protocol: Chat",)]
)
def test_client_without_one_of_our_subprotocols_is_rejected(fields):
    assert answer_to(request(*fields), Policy(subprotocols=["chat"])).status == 400


def accept_with(select, *fields):
    handshake = ServerHandshake(Policy(select_subprotocol=select, subprotocols=["ignored"]))
    assert handshake.receive_data(request(*fields))
    return handshake, handshake.accept("connection")


def test_select_subprotocol_chooses():
    calls = []

    def select(connection, offered):
        calls.append((connection, offered))
        return "b"

    handshake, response = accept_with(select, "Sec-WebSocket-Protocol: a,b,,c")
    assert calls == [("connection", ["a", "b", "c"])]
    assert handshake.subprotocol == response.headers["Sec-WebSocket-Protocol"] == "b"


def test_select_subprotocol_may_choose_none():
    handshake, response = accept_with(lambda connection, offered: None)
    assert handshake.subprotocol is None
    assert "Sec-WebSocket-Protocol" not in response.headers


def test_select_subprotocol_may_reject():
    def select(connection, offered):
        raise NegotiationError("speak up")

    with pytest.raises(Rejected, match="speak up") as caught:
        accept_with(select)
    assert caught.value.response.status_code == 400


def test_H35_unoffered_choice_is_a_fault_of_the_server():
    with pytest.raises(
        ValueError, match=r"select_subprotocol returned 'x', the client offers \['a'\]"
    ) as caught:
        accept_with(lambda connection, offered: "x", "Sec-WebSocket-Protocol: a")
    assert not isinstance(caught.value, Rejected)


def test_error_in_select_subprotocol_is_not_hidden():
    def select(connection, offered):
        raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        accept_with(select)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"origins": "http://a"}, TypeError),
        ({"origins": [1]}, TypeError),
        ({"origins": [re.compile(b"a")]}, TypeError),
        ({"subprotocols": "chat"}, TypeError),
        ({"subprotocols": ["a b"]}, ValueError),
        ({"subprotocols": [""]}, ValueError),
        ({"select_subprotocol": "chat"}, TypeError),
        ({"server_header": "a\r\nb: c"}, ValueError),
    ],
)
def test_policy_that_cannot_work_is_refused(options, error):
    with pytest.raises(error):
        Policy(**options)


@pytest.mark.parametrize(
    ("server_header", "want"), [(SERVER_HEADER, SERVER_HEADER), ("mine", "mine"), (None, None)]
)
def test_server_header_is_in_every_response(server_header, want):
    policy = Policy(server_header=server_header)
    assert answer_to(GOOD, policy).headers.get("Server") == want
    assert answer_to(b"\x00", policy).headers.get("Server") == want


@pytest.mark.parametrize("date_header", [True, False])
def test_date_header_is_in_every_response_or_in_none(date_header):
    want = 1 if date_header else 0
    policy = Policy(date_header=date_header)
    accepted, rejected = ServerHandshake(policy), ServerHandshake(policy)
    accepted.receive_data(GOOD)
    rejected.receive_data(request(line="POST / HTTP/1.1"))
    with pytest.raises(Rejected) as caught:
        rejected.accept()
    for reply in (
        accepted.accept_bytes(),
        accepted.serialize(accepted.accept()),
        rejected.serialize(caught.value.response),
    ):
        assert reply.count(b"\r\nDate: ") == want
        assert reply.count(b"\r\n\r\n") == 1
        assert reply.count(b"\r\nServer: ") == 1


def test_server_header_is_no_version_beyond_the_minor():
    assert re.fullmatch(r"Python/3\.\d+ fastws/\S+", SERVER_HEADER)


def test_server_header_of_a_hook_stays():
    handshake = ServerHandshake(DEFAULT)
    handshake.receive_data(GOOD)
    reply = handshake.serialize(Response(200, "OK", Headers(Server="theirs")))
    assert parse_response(reply)[1].get_all("Server") == ["theirs"]


def test_limits_are_settings():
    policy = Policy(max_line=100, max_head=300, max_fields=6)
    assert answer_to(request("X: a"), policy).status == 101
    assert answer_to(request("X: a", "Y: a"), policy).why == "there are more than 6 header fields"
    assert answer_to(request(of_size(101)), policy).why == "a header field exceeds 100 bytes"
    assert (
        answer_to(request(line=f"GET /{'a' * 100} HTTP/1.1"), policy).why
        == "the request line exceeds 100 bytes"
    )
    assert answer_to(request(of_size(100), line="GET /" + "a" * 80), policy).status == 400
    long = request("X: a", line=f"GET /{'a' * 80} HTTP/1.1", host="a" * 90)
    assert answer_to(long, policy).why == "the request head exceeds 300 bytes"
