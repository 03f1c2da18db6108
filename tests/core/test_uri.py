from urllib.parse import unquote

import pytest
import websockets.exceptions
import websockets.uri
from hypothesis import given
from hypothesis import strategies as st

from fastws.exceptions import InvalidURI
from fastws.uri import WebSocketURI, authority, basic_credentials, parse_uri

GOOD = {
    "ws://localhost/": WebSocketURI(False, "localhost", 80, "/", ""),
    "wss://localhost/": WebSocketURI(True, "localhost", 443, "/", ""),
    "ws://localhost": WebSocketURI(False, "localhost", 80, "", ""),
    "ws://localhost:": WebSocketURI(False, "localhost", 80, "", ""),
    "WS://LocalHost:8765/Path?Query": WebSocketURI(False, "localhost", 8765, "/Path", "Query"),
    "wss://localhost:80": WebSocketURI(True, "localhost", 80, "", ""),
    "ws://localhost?a=b": WebSocketURI(False, "localhost", 80, "", "a=b"),
    "ws://localhost/?": WebSocketURI(False, "localhost", 80, "/", ""),
    "ws://localhost/a;b=c?d?e/f": WebSocketURI(False, "localhost", 80, "/a;b=c", "d?e/f"),
    "ws://localhost/%23%20": WebSocketURI(False, "localhost", 80, "/%23%20", ""),
    "ws://127.0.0.1:1/": WebSocketURI(False, "127.0.0.1", 1, "/", ""),
    "ws://[::1]:65535/": WebSocketURI(False, "::1", 65535, "/", ""),
    "ws://[2001:DB8::1]/": WebSocketURI(False, "2001:db8::1", 80, "/", ""),
    "ws://a_b.example/": WebSocketURI(False, "a_b.example", 80, "/", ""),
    "ws://me:secret@localhost/": WebSocketURI(False, "localhost", 80, "/", "", "me", "secret"),
    "ws://me%40x:s%3Ae%2Fc@localhost/": WebSocketURI(False, "localhost", 80, "/", "", "me@x", "s:e/c"),
    "ws://:@localhost/": WebSocketURI(False, "localhost", 80, "/", "", "", ""),
}

IRIS = {
    "ws://münchen.example/": WebSocketURI(False, "xn--mnchen-3ya.example", 80, "/", ""),
    "ws://localhost/é/ü?ö=€": WebSocketURI(False, "localhost", 80, "/%C3%A9/%C3%BC", "%C3%B6=%E2%82%AC"),
    "ws://localhost/a:b@c/é": WebSocketURI(False, "localhost", 80, "/a:b@c/%C3%A9", ""),
    "ws://mé:ü@localhost/": WebSocketURI(False, "localhost", 80, "/", "", "mé", "ü"),
}


@pytest.mark.parametrize(("uri", "want"), [*GOOD.items(), *IRIS.items()])
def test_uri_is_parsed(uri, want):
    assert parse_uri(uri) == want


@pytest.mark.parametrize("uri", [*GOOD, *IRIS])
def test_parts_are_those_of_websockets(uri):
    ours, theirs = parse_uri(uri), websockets.uri.parse_uri(uri)
    if theirs.username is not None:  # older releases leave it quoted
        theirs.username, theirs.password = map(unquote, (theirs.username, theirs.password))
    assert vars(ours) == vars(theirs)
    assert (ours.resource_name, ours.user_info) == (theirs.resource_name, theirs.user_info)


def test_percents_of_an_iri_stay_as_they_are():
    assert parse_uri("ws://localhost/%20é?%C3%A9").resource_name == "/%20%C3%A9?%C3%A9"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://localhost/", "scheme is 'http', allowed are ws and wss"),
        ("localhost", "scheme is ''"),
        ("", "scheme is ''"),
        ("ws:///path", "no host"),
        ("ws://:80/", "no host"),
        ("ws:localhost", "no host"),
        ("ws://localhost/#a", "fragment"),
        ("ws://localhost/#", "fragment"),
        ("ws://localhost:0/", "port is 0"),
        ("ws://localhost:65536/", "[Pp]ort"),
        ("ws://localhost:a/", "[Pp]ort"),
        ("ws://[::1/", "IPv6"),
        ("ws://[1]/", "address|IPv4"),
        ("ws://a:b@[1]:1/", "address|IPv4"),
        ("ws://a b/", "space"),
        ("ws://a^b/", "neither a name nor an address"),
        ("ws://a%zz/", "neither a name nor an address"),
        ("ws://me@localhost/", "username without a password"),
        ("ws://a%3Ab:c@localhost/", "colon"),
        ("ws://a:b%0Ac@localhost/", "control character"),
        ("ws://a:%ff@localhost/", "utf-8"),
        ("ws://localhost/a\r\nX: y", "control character"),
        ("ws://localhost/a\tb", "control character"),
        ("ws://local\nhost/", "control character"),
        ("ws://localhost/\x00", "control character"),
        ("ws://localhost/a b", "space"),
        ("ws://localhost/?a b", "space"),
        ("ws://" + "é" * 70 + "/", "no domain name"),
    ],
)
def test_what_is_no_uri_of_a_websocket_is_refused(uri, said):
    with pytest.raises(InvalidURI, match=said) as caught:
        parse_uri(uri)
    assert caught.value.uri == uri


@given(st.text(alphabet="ws:/?#[]@.%aé\r\n 0é1", max_size=40).map(lambda text: "ws://" + text))
def test_any_text_is_parsed_or_refused(text):
    try:
        uri = parse_uri(text)
    except InvalidURI:
        return
    assert uri.resource_name[0] == "/"
    assert uri.resource_name.isascii()
    assert uri.host.isascii()
    assert not set(uri.resource_name + uri.host) & set("\r\n #")


@pytest.mark.parametrize(
    ("uri", "name"),
    [("ws://a", "/"), ("ws://a?b", "/?b"), ("ws://a/b", "/b"), ("ws://a/b?c", "/b?c"), ("ws://a/?", "/")],
)
def test_resource_name_is_path_and_query(uri, name):
    assert parse_uri(uri).resource_name == name


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("ws://a/", "a"),
        ("ws://a:80/", "a"),
        ("ws://a:443/", "a:443"),
        ("wss://a:443/", "a"),
        ("wss://a:80/", "a:80"),
        ("ws://[::1]/", "[::1]"),
        ("ws://[::1]:81/", "[::1]:81"),
    ],
)
def test_host_field_has_a_port_that_is_not_the_default(uri, host):
    assert parse_uri(uri).host_field == host


def test_user_info_is_a_pair_or_none():
    assert parse_uri("ws://a:b@c").user_info == ("a", "b")
    assert parse_uri("ws://c").user_info is None


def test_authority_has_brackets_where_there_are_colons():
    assert authority("::1", 80) == "[::1]:80"
    assert authority("a", 80) == "a:80"
    assert authority("a") == "a"


def test_credentials_are_those_of_RFC_7617():
    assert basic_credentials("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert basic_credentials("test", "123£") == "Basic dGVzdDoxMjPCow=="


def test_error_is_that_of_websockets():
    with pytest.raises(websockets.exceptions.InvalidURI):
        websockets.uri.parse_uri("http://a/")
    error = InvalidURI("http://a/", "why")
    assert (error.uri, error.msg, str(error)) == (
        "http://a/",
        "why",
        "URI http://a/ cannot be used: why",
    )
