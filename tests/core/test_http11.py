import http
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws import http11
from fastws.headers import Headers
from fastws.http11 import Request, Response, is_host, reason_phrase, split_absolute


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """RFC 9110 5.6.7 shows this second."""
    now = [784111777.5]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(http11, "http_date", http11.DateCache())
    return now


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def serialized(response, **options):
    head, separator, body = response.serialize(**options).partition(b"\r\n\r\n")
    assert separator
    first, *lines = head.decode("latin-1").split("\r\n")
    return first, [tuple(line.split(": ", 1)) for line in lines], body


# ---------------------------------------------------------------- requests


def test_request_is_made_of_a_head():
    request = Request.parse(b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nX:  1 \t\r\nx:\r\nY: a:b\r\n\r\n")
    assert (request.path, request.method, request.protocol, request.version) == (
        "/a?b=c",
        "GET",
        "HTTP/1.1",
        "1.1",
    )
    assert list(request.headers.raw_items()) == [("Host", "a"), ("X", "1"), ("x", ""), ("Y", "a:b")]


def test_request_without_fields_is_made_of_a_head():
    request = Request.parse(b"OPTIONS * HTTP/1.0\r\n\r\n")
    assert (request.path, request.method, request.version, len(request.headers)) == ("*", "OPTIONS", "1.0", 0)


def test_H33_no_character_but_CRLF_ends_a_field():
    request = Request.parse("GET / HTTP/1.1\r\nX: a\x85b\xa0\r\n\r\n".encode("latin-1"))
    assert list(request.headers.raw_items()) == [("X", "a\x85b\xa0")]


def test_H37_absolute_target_gives_path_and_host():
    request = Request.parse(b"GET http://b:1/c?d HTTP/1.1\r\nhost: a\r\nX: x\r\n\r\n")
    assert request.path == "/c?d"
    assert request.headers.get_all("Host") == ["b:1"]


def test_request_is_made_by_hand():
    assert Request("/", Headers()) == Request("/", Headers(), "GET", "HTTP/1.1")


@pytest.mark.parametrize(
    ("target", "want"),
    [
        ("http://a/b", ("a", "/b")),
        ("HTTPS://a", ("a", "/")),
        ("ws://a?b", ("a", "/?b")),
        ("wss://a:1/?b", ("a:1", "/?b")),
        ("http://", ("", "/")),
        ("/a://b", None),
        ("ftp://a/", None),
        ("a:1", None),
        ("http:/a", None),
        ("http://a/#b", None),
    ],
)
def test_absolute_form_is_split(target, want):
    assert split_absolute(target) == want


@pytest.mark.parametrize(
    "host",
    ["a", "a.b", "a:1", "a:", "127.0.0.1:8765", "[::1]", "[::1]:1", "[2001:db8::1.2.3.4]",
     "[fe80::1%25eth0]:1", "[v1.a:b]", "a_b", "a%2Db", "%61", "!$&'()*+,;=~-"],
)  # fmt: skip
def test_H9_host_is_taken(host):
    assert is_host(host.encode())


@pytest.mark.parametrize(
    "host",
    ["", ":", ":1", "a:b", "a:1:2", "::1", "[]", "[::1", "::1]", "[::1]a", "[::1]:a", "[1]", "[:::]",
     "[1::2::3]", "[::1%eth0]", "[v.a]", "a b", "a/b", "a?b", "a#b", "a@b", "a%", "a%2", "a%xx", "a\\b",
     "a\n", '"a"', "ä", "<a>"],
)  # fmt: skip
def test_H9_what_is_no_host_is_not_taken(host):
    assert not is_host(host.encode("latin-1"))


@given(st.binary(max_size=5000))
def test_hosts_of_any_bytes_are_judged(value):
    assert is_host(value) in (True, False)


def test_long_host_is_judged_in_linear_time():
    assert not is_host(b"%61a" * 2000 + b"!%")
    assert not is_host(b"a" * 8000 + b"@")


# ---------------------------------------------------------------- responses


def test_response_says_its_date_its_length_and_the_end():
    first, fields, body = serialized(Response(200, "OK", Headers(A="a"), b"body"))
    assert first == "HTTP/1.1 200 OK"
    assert fields == [("Date", DATE), ("A", "a"), ("Content-Length", "4"), ("Connection", "close")]
    assert body == b"body"


def test_date_is_that_of_the_second(clock):
    seen = []
    for clock[0] in (784111777.0, 784111777.9, 784111778.0):
        seen.append(dict(serialized(Response(200, "OK"))[1])["Date"])
    assert seen == [DATE, DATE, "Sun, 06 Nov 1994 08:49:38 GMT"]


def test_own_date_stays():
    assert dict(serialized(Response(200, "OK", Headers(date=DATE)))[1]).keys() == {
        "date", "Content-Length", "Connection",
    }  # fmt: skip


def test_headers_may_be_what_makes_headers():
    response = Response(200, "OK", [("A", "a"), ("A", "b")])
    assert response.headers.get_all("A") == ["a", "b"]
    assert Response(200, "OK", {"A": "a"}).headers == Headers(A="a")
    assert Response(200, "OK").headers == Headers()


@pytest.mark.parametrize("told", ["3", "5", "x"])
def test_length_is_that_of_the_body(told):
    _, fields, body = serialized(Response(200, "OK", [("content-length", told)], b"body"))
    assert [value for name, value in fields if name.lower() == "content-length"] == ["4"]
    assert body == b"body"


@pytest.mark.parametrize(
    ("given_headers", "given_body", "length"),
    [({}, b"body", "4"), ({"Content-Length": "99"}, b"", "99"), ({}, b"", "0")],
)
def test_answer_to_HEAD_has_the_length_but_no_body(given_headers, given_body, length):
    _, fields, body = serialized(Response(200, "OK", given_headers, given_body), with_body=False)
    assert [value for name, value in fields if name == "Content-Length"] == [length]
    assert body == b""


@pytest.mark.parametrize(
    ("status", "headers", "length"),
    [(101, {}, []), (204, {}, []), (204, {"Content-Length": "4"}, []), (205, {}, ["0"]), (304, {}, []),
     (304, {"Content-Length": "9"}, ["9"])],
)  # fmt: skip
def test_status_without_content_has_no_body(status, headers, length):
    _, fields, body = serialized(Response(status, "", headers, b"body"))
    assert [value for name, value in fields if name == "Content-Length"] == length
    assert body == b""


def test_switching_protocols_is_not_the_end():
    assert "Connection" not in dict(serialized(Response(101, "Switching Protocols"))[1])


@pytest.mark.parametrize(
    ("connection", "want"),
    [("close", ["close"]), ("Upgrade, Close", ["Upgrade, Close"]), ("keep-alive", ["keep-alive", "close"])],
)
def test_connection_names_close(connection, want):
    _, fields, _ = serialized(Response(200, "OK", {"Connection": connection}))
    assert [value for name, value in fields if name == "Connection"] == want


def test_date_can_be_left_out_and_that_of_a_hook_stays():
    assert "Date" not in dict(serialized(Response(200, "OK"), with_date=False)[1])
    assert dict(serialized(Response(200, "OK", {"Date": DATE}), with_date=False)[1])["Date"] == DATE


def test_more_fields_are_added_where_they_are_missing():
    response = Response(200, "OK", {"server": "theirs"})
    _, fields, _ = serialized(response, more=[("Server", "ours"), ("X", "x")])
    assert ("server", "theirs") in fields
    assert ("Server", "ours") not in fields
    assert ("X", "x") in fields
    assert response.headers == Headers(Server="theirs")


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(Response(99, ""), id="status-99"),
        pytest.param(Response(100, "Continue"), id="status-100"),
        pytest.param(Response(600, ""), id="status-600"),
        pytest.param(Response(200, "OK\r\nA: b"), id="H34-reason"),
        pytest.param(Response(200, "€"), id="reason-not-latin-1"),
        pytest.param(Response(200, "OK", body="text"), id="body-of-text"),
        pytest.param(Response(200, "OK", {"Transfer-Encoding": "chunked"}), id="chunked"),
    ],
)
def test_H34_what_cannot_stand_in_a_message_is_refused(response):
    with pytest.raises(ValueError, match=" is "):
        response.serialize()


def test_H34_field_that_cannot_stand_in_a_message_is_refused():
    with pytest.raises(ValueError, match="field A is"):
        Response(200, "OK", {"A": "a\r\nB: b"})


def test_body_may_be_a_bytearray():
    assert serialized(Response(200, "OK", body=bytearray(b"ab")))[2] == b"ab"


def test_status_may_be_of_the_standard_library():
    assert serialized(Response(http.HTTPStatus.NOT_FOUND, "Not Found"))[0] == "HTTP/1.1 404 Not Found"


@pytest.mark.parametrize(
    ("status", "phrase"), [(426, "Upgrade Required"), (http.HTTPStatus.OK, "OK"), (599, "")]
)
def test_reason_phrase_is_the_usual_one(status, phrase):
    assert reason_phrase(status) == phrase
