"""What both sides agree on, RFC 6455 9.1 and RFC 7692 7.1; rows H51 to H54."""

import contextlib
import time

import pytest
from handshake_rows import answer_to, request
from hypothesis import given
from hypothesis import strategies as st
from websockets.headers import parse_extension

from fastws.client_handshake import ClientHandshake
from fastws.exceptions import InvalidHandshake, InvalidHeaderValue, NegotiationError
from fastws.extensions import Agreed, Deflate, compression_of, parse_extensions
from fastws.handshake import Policy, ServerHandshake
from fastws.headers import accept_key
from fastws.uri import parse_uri

PD = "permessage-deflate"
SNT, CNT = "server_no_context_takeover", "client_no_context_takeover"
SB, CB = "server_max_window_bits", "client_max_window_bits"
SHARED, DEDICATED = Deflate(), Deflate(shared=False)
NARROW_CLIENT = Deflate(client_max_window_bits=11)
BAD_BITS = ("7", "16", "08", "015", "1", "x", "1e1", "+9")


def served(*fields, deflate=SHARED):
    """Return (status, Sec-WebSocket-Extensions, what was agreed on) for a request with these fields."""
    data = request(*(f"Sec-WebSocket-Extensions: {field}" for field in fields))
    policy = Policy(compression=deflate)
    reply = answer_to(data, policy)
    if reply.status != 101:
        return reply.status, None, None
    handshake = ServerHandshake(policy)
    assert handshake.receive_data(data)
    response = handshake.accept()  # the other way to accept says the same
    assert response.headers.get("Sec-WebSocket-Extensions") == reply.headers.get("Sec-WebSocket-Extensions")
    return 101, reply.headers.get("Sec-WebSocket-Extensions"), handshake.deflate


def visited(*fields, deflate=SHARED):
    """Return what a client has agreed on that gets these fields; raises what its handshake does."""
    handshake = ClientHandshake(parse_uri("ws://localhost/"), compression=deflate)
    accept = accept_key(handshake.request.headers["Sec-WebSocket-Key"].encode()).decode()
    lines = ["HTTP/1.1 101 x", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    lines += [f"Sec-WebSocket-Extensions: {field}" for field in fields]
    assert handshake.receive_data("\r\n".join([*lines, "", ""]).encode())
    handshake.check()
    return handshake.deflate


def offered(deflate):
    headers = ClientHandshake(parse_uri("ws://localhost/"), compression=deflate).request.headers
    return headers.get("Sec-WebSocket-Extensions")


# ---------------------------------------------------------------- the grammar

GRAMMAR = {
    "a": [("a", [])],
    "a, b": [("a", []), ("b", [])],
    "a;x": [("a", [("x", None)])],
    " a ; x = 1 ;y ,b": [("a", [("x", "1"), ("y", None)]), ("b", [])],
    'a; x="1"; x=2': [("a", [("x", "1"), ("x", "2")])],
    r'a; x="\1\0"': [("a", [("x", "10")])],
    ",,a,,": [("a", [])],
    "\ta\t;\tx": [("a", [("x", None)])],
    "q; t=tq": [("q", [("t", "tq")])],
}


@pytest.mark.parametrize("value", GRAMMAR)
def test_the_grammar_is_that_of_rfc_6455(value):
    assert [(name, list(parameters)) for name, parameters in parse_extensions(value)] == GRAMMAR[value]


WRONG = [
    "",
    ",",
    ",,;=,",
    "a;",
    ";x",
    "a;;x",
    "a; x=",
    "a; =1",
    "a=1",
    "a b",
    "a; x=1 2",
    'a; x="',
    'a; x="1',
    'a; x="1\\"',
    'a; x=""',
    'a; x="1 2"',
    'a; x="1,2"',
    '"a"',
    'a; "x"',
    "a; x==1",
    "a; x=1=2",
    "a/b",
    "a; x=é",
    "a; x=1;",
    "(a)",
    "a; x={}",
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_h54_what_the_grammar_does_not_allow_is_400(value):
    with pytest.raises(ValueError):
        parse_extensions(value)
    assert served(value) == (400, None, None)
    # Behind a good offer, too.
    if value.strip(","):
        assert served(PD, value)[0] == 400
    # It is not looked at where there is no compression.
    assert answer_to(request(f"Sec-WebSocket-Extensions: {value}")).status == 101


def test_h54_a_wrong_value_is_named():
    for value in ("a; x=1 tattoo", "a; x=1 quota"):
        with pytest.raises(ValueError, match=value.rpartition(" ")[2]):
            parse_extensions(value)


@pytest.mark.parametrize(
    "unit",
    ['"', 'a;x="', "\\", '"\\', " ", "a;", ",", "a,", 'a;x="1",', "a ", ";", "=", 'a;x="' + "\\a" * 9, "\t "],
    ids=repr,
)
@pytest.mark.parametrize("start", ["", "a;x=", 'a;x="'])
def test_h54_any_value_is_judged_in_linear_time(unit, start):
    def seconds(size):
        value = start + unit * (size // len(unit))
        best = 9.0
        for _ in range(3):
            begin = time.perf_counter()
            with contextlib.suppress(ValueError):
                parse_extensions(value)
            best = min(best, time.perf_counter() - begin)
        return best

    # Sixteen times the length: quadratic would be 256 times the time.
    assert seconds(64_000) < 60 * seconds(4000) + 0.005


NAMES = st.sampled_from(["a", "b-c", PD, "x1"])
VALUES = st.none() | st.sampled_from(["1", "10", "abc"])


@given(st.lists(st.tuples(NAMES, st.lists(st.tuples(NAMES, VALUES), max_size=3)), min_size=1, max_size=4))
def test_what_is_written_is_what_is_read_and_websockets_agrees(extensions):
    value = ", ".join(
        "; ".join([name, *(key if val is None else f"{key}={val}" for key, val in parameters)])
        for name, parameters in extensions
    )
    found = [(name, list(parameters)) for name, parameters in parse_extensions(value)]
    assert found == extensions == parse_extension(value)


@given(st.text(st.sampled_from('a1;,= "\\\t'), max_size=12))
def test_any_string_is_parsed_or_a_value_error(value):
    try:
        found = parse_extensions(value)
    except ValueError:
        return
    assert found
    assert all(name for name, _ in found)


# ---------------------------------------------------------------- the server

# offer: (answer, out_bits, in_bits, out_takeover, in_takeover) of a dedicated server that says nothing.
OFFERS = {
    PD: (PD, 12, 15, True, True),
    f"{PD}; {CB}": (f"{PD}; {CB}=12", 12, 12, True, True),
    f"{PD}; {CB}=15": (f"{PD}; {CB}=12", 12, 12, True, True),
    f"{PD}; {CB}=9": (f"{PD}; {CB}=9", 12, 9, True, True),
    f"{PD}; {CB}=8": (f"{PD}; {CB}=8", 12, 8, True, True),
    f'{PD}; {CB}="10"': (f"{PD}; {CB}=10", 12, 10, True, True),
    f"{PD}; {SB}=15": (f"{PD}; {SB}=12", 12, 15, True, True),
    f"{PD}; {SB}=9": (f"{PD}; {SB}=9", 9, 15, True, True),
    f"{PD}; {SNT}": (f"{PD}; {SNT}", 12, 15, False, True),
    f"{PD}; {CNT}": (f"{PD}; {CNT}", 12, 15, True, False),
    f"{PD}; {CB}; {SB}=10; {CNT}; {SNT}": (f"{PD}; {SNT}; {CNT}; {SB}=10; {CB}=12", 10, 12, False, False),
}


@pytest.mark.parametrize("offer", OFFERS)
def test_h53_an_offer_is_accepted_as_rfc_7692_says(offer):
    status, header, agreed = served(offer, deflate=DEDICATED)
    assert (status, header, *agreed[1:5]) == (101, *OFFERS[offer])
    assert agreed.header == header


@pytest.mark.parametrize(
    ("deflate", "offer", "expected"),
    [
        (SHARED, PD, (f"{PD}; {SNT}; {CNT}", 15, 15, False, False)),
        (SHARED, f"{PD}; {CB}", (f"{PD}; {SNT}; {CNT}", 15, 15, False, False)),
        (SHARED, f"{PD}; {CB}=10", (f"{PD}; {SNT}; {CNT}; {CB}=10", 15, 10, False, False)),
        (SHARED, f"{PD}; {SB}=10", (f"{PD}; {SNT}; {CNT}; {SB}=10", 10, 15, False, False)),
        (
            Deflate(client_max_window_bits=11),
            f"{PD}; {CB}",
            (f"{PD}; {SNT}; {CNT}; {CB}=11", 15, 11, False, False),
        ),
        (NARROW_CLIENT, PD, (f"{PD}; {SNT}; {CNT}", 15, 15, False, False)),
        (Deflate(server_max_window_bits=11), PD, (f"{PD}; {SNT}; {CNT}", 11, 15, False, False)),
        (Deflate(client_no_context_takeover=False), PD, (f"{PD}; {SNT}", 15, 15, False, True)),
        # What is not said need not be done: shared, there is no context to refer to.
        (Deflate(server_no_context_takeover=False), PD, (f"{PD}; {CNT}", 15, 15, False, False)),
        (Deflate(shared=False, server_no_context_takeover=True), PD, (f"{PD}; {SNT}", 12, 15, False, True)),
        (Deflate(shared=False, server_max_window_bits=15), PD, (PD, 15, 15, True, True)),
    ],
)
def test_a_server_answers_as_its_settings_say(deflate, offer, expected):
    status, header, agreed = served(offer, deflate=deflate)
    assert (status, header, *agreed[1:5]) == (101, *expected)


DECLINED = [
    f"{PD}; {CNT}; {CNT}",
    f"{PD}; {SNT}; {SNT}",
    f"{PD}; {SB}=10; {SB}=10",
    f"{PD}; {CB}; {CB}=10",
    f"{PD}; unknown",
    f"{PD}; unknown=1",
    f"{PD}; {SNT}=1",
    f"{PD}; {CNT}=true",
    f"{PD}; {SB}",
    *(f"{PD}; {name}={bits}" for name in (SB, CB) for bits in BAD_BITS),
    "permessage-bzip2",
    "x-webkit-deflate-frame",
]


@pytest.mark.parametrize("offer", DECLINED)
def test_h51_an_offer_that_cannot_be_accepted_is_declined_and_the_handshake_succeeds(offer):
    assert served(offer) == (101, None, None)
    # Only that one.
    assert served(f"{offer}, {PD}; {SB}=11")[1] == f"{PD}; {SNT}; {CNT}; {SB}=11"
    assert served(offer, f"{PD}; {SB}=11")[1] == f"{PD}; {SNT}; {CNT}; {SB}=11"


@pytest.mark.parametrize("deflate", [SHARED, DEDICATED])
def test_h52_a_server_window_of_eight_bits_is_declined(deflate):
    # zlib has none.
    assert served(f"{PD}; {SB}=8", deflate=deflate) == (101, None, None)
    assert served(f"{PD}; {SB}=8, {PD}", deflate=deflate)[2].out_bits == (15 if deflate is SHARED else 12)


def test_h53_the_first_acceptable_of_many_offers_is_accepted_once():
    offers = [f"{PD}; {SB}=8", "other", f"{PD}; {SB}=10", f"{PD}; {SB}=9", PD] * 20
    expected = f"{PD}; {SNT}; {CNT}; {SB}=10"
    assert served(", ".join(offers))[1] == expected
    assert served(*offers[:40])[1] == expected


def test_h53_names_of_extensions_know_no_case_and_the_answer_is_ours():
    assert served("PerMessage-Deflate")[1] == f"{PD}; {SNT}; {CNT}"


def test_without_compression_offers_are_not_answered():
    assert served(PD, deflate=None) == (101, None, None)
    assert served() == (101, None, None)


def test_level_memory_level_and_min_size_are_handed_on():
    agreed = served(PD, deflate=Deflate(level=3, memory_level=7, min_size=0))[2]
    assert isinstance(agreed, Agreed)
    assert (agreed.level, agreed.memory_level, agreed.min_size) == (3, 7, 0)


# ---------------------------------------------------------------- the client


@pytest.mark.parametrize(
    ("deflate", "header"),
    [
        (None, None),
        (SHARED, f"{PD}; {SNT}; {CNT}; {CB}"),
        (DEDICATED, f"{PD}; {CB}"),
        (Deflate(shared=False, server_max_window_bits=10), f"{PD}; {SB}=10; {CB}"),
        (Deflate(shared=False, client_max_window_bits=10), f"{PD}; {CB}=10"),
        (Deflate(shared=False, server_no_context_takeover=True), f"{PD}; {SNT}; {CB}"),
        (Deflate(client_no_context_takeover=False), f"{PD}; {SNT}; {CB}"),
    ],
)
def test_a_client_offers_what_its_settings_say(deflate, header):
    assert offered(deflate) == header


@pytest.mark.parametrize(
    ("deflate", "answer", "expected"),
    [
        (SHARED, f"{PD}; {SNT}", (15, 15, False, False)),
        (SHARED, f"{PD}; {SNT}; {CNT}; {SB}=10; {CB}=9", (9, 10, False, False)),
        (DEDICATED, PD, (12, 15, True, True)),
        (DEDICATED, f"{PD}; {CNT}", (12, 15, False, True)),
        (DEDICATED, f"{PD}; {SNT}", (12, 15, True, False)),
        (DEDICATED, f"{PD}; {CB}=10", (10, 15, True, True)),
        (DEDICATED, f"{PD}; {CB}=15", (12, 15, True, True)),
        (DEDICATED, f"{PD}; {CB}=8", (8, 15, True, True)),
        (DEDICATED, f'{PD}; {SB}="8"', (12, 8, True, True)),
        (Deflate(shared=False, server_max_window_bits=11), f"{PD}; {SB}=11", (12, 11, True, True)),
        (Deflate(shared=False, server_max_window_bits=11), f"{PD}; {SB}=9", (12, 9, True, True)),
        (Deflate(shared=False, client_no_context_takeover=True), PD, (12, 15, False, True)),
    ],
)
def test_a_client_takes_an_answer_as_rfc_7692_says(deflate, answer, expected):
    agreed = visited(answer, deflate=deflate)
    assert agreed[1:5] == expected
    assert agreed.header == answer


def test_a_client_goes_on_without_compression_when_the_server_does():
    assert visited() is None


LIMITED = Deflate(shared=False, server_max_window_bits=11)


@pytest.mark.parametrize(
    ("deflate", "answers", "error"),
    [
        (None, [PD], NegotiationError),
        (SHARED, [PD], NegotiationError),  # without server_no_context_takeover
        (SHARED, ["other"], NegotiationError),
        (DEDICATED, [f"{PD}, other"], NegotiationError),
        (DEDICATED, [PD, PD], NegotiationError),
        (DEDICATED, [f"{PD}, {PD}"], NegotiationError),
        (DEDICATED, [f"{PD}; unknown"], NegotiationError),
        (DEDICATED, [f"{PD}; {CNT}; {CNT}"], NegotiationError),
        (DEDICATED, [f"{PD}; {CNT}=1"], NegotiationError),
        (DEDICATED, [f"{PD}; {CB}"], NegotiationError),  # RFC 7692 7.1.2.2: a value is needed
        (DEDICATED, [f"{PD}; {SB}"], NegotiationError),
        (DEDICATED, [f"{PD}; {SB}=7"], NegotiationError),
        (DEDICATED, [f"{PD}; {CB}=16"], NegotiationError),
        (DEDICATED, [f"{PD}; {CB}=09"], NegotiationError),
        (LIMITED, [PD], NegotiationError),  # it has to keep to the window that was asked for
        (LIMITED, [f"{PD}; {SB}=12"], NegotiationError),
        (DEDICATED, [""], InvalidHeaderValue),
        (DEDICATED, [f"{PD};"], InvalidHeaderValue),
        (DEDICATED, [f'{PD}; {SB}="10'], InvalidHeaderValue),
    ],
)
def test_a_client_fails_on_an_answer_that_was_not_offered(deflate, answers, error):
    with pytest.raises(error) as caught:
        visited(*answers, deflate=deflate)
    assert isinstance(caught.value, InvalidHandshake)


@given(st.data())
def test_a_client_and_a_server_of_ours_agree_with_each_other(data):
    bits = st.none() | st.integers(9, 15)
    takeover = st.sampled_from([None, True, False])
    client, server = (
        Deflate(
            shared=data.draw(st.booleans()),
            server_max_window_bits=data.draw(bits),
            client_max_window_bits=data.draw(bits),
            server_no_context_takeover=data.draw(takeover),
            client_no_context_takeover=data.draw(takeover),
        )
        for _ in range(2)
    )
    _, header, theirs = served(offered(client), deflate=server)
    assert header is not None
    ours = visited(header, deflate=client)
    # Neither sends what the other does not expect.
    assert ours.out_bits <= theirs.in_bits
    assert theirs.out_bits <= ours.in_bits
    assert ours.out_takeover <= theirs.in_takeover
    assert theirs.out_takeover <= ours.in_takeover


# ---------------------------------------------------------------- Deflate


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("level", 0),
        ("level", 10),
        ("memory_level", 0),
        ("memory_level", 10),
        (SB, 8),
        (SB, 16),
        (CB, 8),
        (CB, 16),
        ("min_size", -1),
        ("min_size", 2**31),
    ],
)
def test_a_setting_out_of_range_is_a_value_error_that_says_the_range(name, wrong):
    with pytest.raises(ValueError, match=f"{name} is {wrong}, allowed are"):
        Deflate(**{name: wrong})


@pytest.mark.parametrize("name", ["level", "memory_level", SB, CB, "min_size"])
@pytest.mark.parametrize("wrong", ["9", 9.0, True])
def test_a_setting_that_is_no_int_is_a_type_error(name, wrong):
    with pytest.raises(TypeError, match=f"{name} is {wrong!r}, expected an int"):
        Deflate(**{name: wrong})


def test_limits_of_settings_are_allowed_and_repr_shows_them():
    low = Deflate(level=1, memory_level=1, min_size=0, **{SB: 9, CB: 9})
    high = Deflate(level=9, memory_level=9, min_size=2**31 - 1, **{SB: 15, CB: 15})
    assert eval(repr(low)).min_size == low.min_size == 0
    assert eval(repr(high)).server_max_window_bits == 15


def test_compression_is_deflate_a_deflate_or_none():
    assert compression_of(None) is None
    assert compression_of(SHARED) is SHARED
    assert compression_of("deflate").shared
    for wrong in ("gzip", ""):
        with pytest.raises(ValueError, match="compression is"):
            compression_of(wrong)
    for wrong in (True, 15, Deflate):
        with pytest.raises(TypeError, match="compression is"):
            compression_of(wrong)
