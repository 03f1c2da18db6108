"""Trusted proxies, and the client's address in header fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.forwarded import Proxies, parse_node
from fastws.headers import Headers

PEER = ("10.0.0.1", 4711)
TRUSTED = ["10.0.0.0/8", "fd00::/8", "unix"]


def client(values, peer=PEER, source="X-Forwarded-For", trusted=TRUSTED):
    return Proxies(trusted, source).client_of(Headers([(source, value) for value in values]), peer)


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        (("10.1.2.3", 1), True),
        (("11.1.2.3", 1), False),
        (("fd12::1", 1, 0, 0), True),
        (("fd12::1%eth0", 1, 0, 3), True),
        (("fe80::1", 1, 0, 0), False),
        (("::ffff:10.1.2.3", 1, 0, 0), True),
        (("::ffff:11.1.2.3", 1, 0, 0), False),
        ("", True),
        ("/path", True),
    ],
)
def test_addresses_networks_and_unix_sockets_are_trusted_as_told(address, trusted):
    assert Proxies(TRUSTED).trusts(address) is trusted


def test_the_name_of_a_unix_socket_is_no_address():
    assert not Proxies(["10.0.0.0/8"]).trusts("10.0.0.7")
    assert client(["192.0.2.1"], peer="10.0.0.7", trusted=["10.0.0.0/8"]) == "10.0.0.7"


def test_everybody_can_be_trusted():
    assert Proxies(["*"]).trusts(("192.0.2.1", 1))
    assert Proxies(["*"]).trusts("")
    assert not Proxies([]).trusts("")


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (["192.0.2.1"], ("192.0.2.1", 0)),
        (["192.0.2.1:5"], ("192.0.2.1", 5)),
        (["[2001:db8::1]:5"], ("2001:db8::1", 5, 0, 0)),
        (["2001:db8::1"], ("2001:db8::1", 0, 0, 0)),
        # The client's own claim stands first.
        (["1.1.1.1, 192.0.2.1"], ("192.0.2.1", 0)),
        (["1.1.1.1", "192.0.2.1,10.9.9.9"], ("192.0.2.1", 0)),
        (["10.9.9.9"], ("10.9.9.9", 0)),
        (["192.0.2.1, unknown, 10.9.9.9"], ("10.9.9.9", 0)),
        (["192.0.2.1, "], PEER),
        (["nonsense"], PEER),
        (["192.0.2.1:99999"], PEER),
        ([""], PEER),
        ([], PEER),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy(values, address):
    assert client(values) == address


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (["for=192.0.2.1"], ("192.0.2.1", 0)),
        (['For="[2001:db8::1]:4711"'], ("2001:db8::1", 4711, 0, 0)),
        (["proto=https;for=192.0.2.1;by=10.0.0.1"], ("192.0.2.1", 0)),
        (["for=1.1.1.1, for=192.0.2.1, for=10.2.3.4"], ("192.0.2.1", 0)),
        (["for=1.1.1.1", "for=192.0.2.1"], ("192.0.2.1", 0)),
        (['for="192.0.2.1";host="a,b;c\\",d"'], ("192.0.2.1", 0)),
        (['for="192.0.2.1:_hidden"'], ("192.0.2.1", 0)),
        (["for=192.0.2.1, for=_hidden"], PEER),
        (["for=192.0.2.1, for=unknown"], PEER),
        (["for=192.0.2.1, proto=https"], PEER),
        (['for=192.0.2.1, for="'], PEER),
        (["192.0.2.1"], PEER),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(values, address):
    assert client(values, source="Forwarded") == address


def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_says():
    assert client(["192.0.2.1"], peer=("192.0.2.9", 1)) == ("192.0.2.9", 1)


def test_only_the_field_that_was_chosen_counts():
    headers = Headers([("Forwarded", "for=1.1.1.1"), ("X-Forwarded-For", "192.0.2.1")])
    assert Proxies(TRUSTED).client_of(headers, PEER) == ("192.0.2.1", 0)
    assert Proxies(TRUSTED, "forwarded").client_of(headers, PEER) == ("1.1.1.1", 0)
    assert Proxies(TRUSTED, "PROXY").client_of(headers, PEER) == PEER


def test_with_everybody_trusted_it_is_the_last_address_all_the_same():
    assert client(["1.1.1.1, 192.0.2.1"], trusted=["*"]) == ("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("trusted", "source", "message"),
    [
        (["10.0.0.1/8"], "PROXY", "trusted_proxies has '10.0.0.1/8'"),
        (["localhost"], "PROXY", "trusted_proxies has 'localhost'"),
        ([], "X-Real-IP", "address_from is 'X-Real-IP', allowed are X-Forwarded-For, Forwarded, PROXY"),
    ],
)
def test_what_is_no_network_or_source_is_refused(trusted, source, message):
    with pytest.raises(ValueError, match=message):
        Proxies(trusted, source)


def test_a_string_is_no_list_of_proxies():
    with pytest.raises(TypeError, match="trusted_proxies is '10'"):
        Proxies("10")


@pytest.mark.parametrize(
    "claim", ['x="', 'for=192.0.2.66;x="', 'x="\\', 'x=", for="', 'for="192.0.2.66', '"\\"', ",", '"a" "']
)
def test_a_quote_that_a_client_leaves_open_hides_nothing_that_a_proxy_says(claim):
    assert client([f"{claim}, for=192.0.2.1"], source="Forwarded") == ("192.0.2.1", 0)
    assert client([f'{claim}, for="[2001:db8::1]:4711"'], source="Forwarded")[:2] == ("2001:db8::1", 4711)


@given(st.text(max_size=60))
def test_any_node_gives_an_address_or_nothing(node):
    assert parse_node(node) is None or len(parse_node(node)) in (2, 4)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120), st.sampled_from([0, 1]))
def test_any_value_gives_an_address(value, which):
    assert client([value], source=("X-Forwarded-For", "Forwarded")[which])
