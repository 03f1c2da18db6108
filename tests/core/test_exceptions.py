import copy
import inspect
import pickle

import pytest
import websockets.exceptions as theirs

from fastws import codes, exceptions
from fastws.codes import Close, CloseCode, Opcode, State
from fastws.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidMethod,
    InvalidOrigin,
    InvalidParameterValue,
    InvalidProtocol,
    InvalidStatus,
    PayloadTooBig,
    TooManyFragments,
    closed_exception,
)
from fastws.http11 import Response

OK = Close(1000, "bye")
ERROR = Close(1011)


# Older releases of theirs have fewer names.
SHARED = [name for name in exceptions.__all__ if hasattr(theirs, name)]


@pytest.mark.parametrize("name", SHARED)
def test_names_and_inheritance_are_those_of_websockets(name):
    def lineage(kind):
        return [base.__name__ for base in inspect.getmro(kind)]

    assert lineage(getattr(exceptions, name)) == lineage(getattr(theirs, name))


def test_all_public_exceptions_are_listed():
    defined = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert defined == set(exceptions.__all__)


# Theirs takes a message as well, which is deprecated.
@pytest.mark.parametrize("name", [name for name in SHARED if name != "PayloadTooBig"])
def test_constructors_take_what_those_of_websockets_take(name):
    def parameters(kind):
        if not inspect.isfunction(kind.__init__):
            return None  # what Exception takes
        return [(one.name, one.default) for one in inspect.signature(kind).parameters.values()]

    assert parameters(getattr(exceptions, name)) == parameters(getattr(theirs, name))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionClosed(None, None), "connection lost without a Close frame"),
        (ConnectionClosed(OK, None), "received 1000 (normal closure) bye, sent no Close frame"),
        (ConnectionClosed(None, ERROR), "sent 1011 (internal error), received no Close frame"),
        (
            ConnectionClosed(OK, ERROR, True),
            "received 1000 (normal closure) bye, then sent 1011 (internal error)",
        ),
        (
            ConnectionClosed(OK, ERROR, False),
            "sent 1011 (internal error), then received 1000 (normal closure) bye",
        ),
        (InvalidHeader("Host"), "field Host is missing"),
        (InvalidHeader("Host", ""), "field Host is empty"),
        (InvalidHeader("Host", "a b"), "field Host is not valid: a b"),
        (
            InvalidHeaderFormat("A", "expected token", "a;", 2),
            "field A is not valid: expected token at 2 in a;",
        ),
        (InvalidOrigin(None), "field Origin is missing"),
        (InvalidMethod("POST"), "method is POST, allowed is GET"),
        (InvalidProtocol("HTTP/1.0"), "version is HTTP/1.0, a WebSocket needs HTTP/1.1"),
        (InvalidStatus(Response(200, "OK")), "the server answers with status 200, not with 101"),
        (exceptions.InvalidURI("a", "why"), "URI a cannot be used: why"),
        (exceptions.InvalidProxy("a", "why"), "proxy a cannot be used: why"),
        (
            exceptions.InvalidProxyStatus(Response(407, "x")),
            "the proxy answers with status 407, allowed are 200 to 299",
        ),
        (exceptions.DuplicateParameter("a"), "parameter a is given more than once"),
        (exceptions.InvalidParameterName("a"), "parameter a is unknown"),
        (InvalidParameterValue("a", None), "parameter a has no value"),
        (InvalidParameterValue("a", ""), "parameter a has an empty value"),
        (InvalidParameterValue("a", "b"), "parameter a has the value b, which is not allowed"),
        (PayloadTooBig(11, 10), "payload is 11 bytes, limit is 10 bytes"),
        (PayloadTooBig(None, 10), "payload exceeds the limit of 10 bytes"),
        (PayloadTooBig(11, 10, 5), "payload is 11 bytes after 5 in earlier frames, limit is 15 bytes"),
        (TooManyFragments(9), "message has more than 9 fragments"),
    ],
    ids=repr,
)
def test_text_says_what_happened_and_copies_keep_it(error, text):
    assert str(error) == text
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert str(other) == text
        assert vars(other) == vars(error)


def test_connection_closed_has_the_code_and_reason_of_the_peer():
    error = ConnectionClosed(Close(4000, "why"), OK, True)
    assert (error.code, error.reason) == (4000, "why")
    assert (error.rcvd, error.sent, error.rcvd_then_sent) == (Close(4000, "why"), OK, True)
    lost = ConnectionClosed(None, OK)
    assert (lost.code, lost.reason, lost.rcvd_then_sent) == (CloseCode.ABNORMAL_CLOSURE, "", None)


@pytest.mark.parametrize(
    ("rcvd", "sent", "kind"),
    [
        ((1000, ""), (1000, ""), ConnectionClosedOK),
        ((1001, "bye"), (1001, ""), ConnectionClosedOK),
        ((1005, ""), (1005, ""), ConnectionClosedOK),
        ((1000, ""), (1005, ""), ConnectionClosedOK),
        ((1000, ""), (1011, ""), ConnectionClosedError),
        ((4000, ""), (4000, ""), ConnectionClosedError),
        ((1000, ""), None, ConnectionClosedError),
        (None, (1000, ""), ConnectionClosedError),
        (None, None, ConnectionClosedError),
    ],
)
@pytest.mark.parametrize("order", [True, False])
def test_clean_closing_handshake_is_ok_and_all_else_an_error(rcvd, sent, kind, order):
    error = closed_exception(rcvd, sent, order)
    assert type(error) is kind
    assert error.rcvd == (None if rcvd is None else Close(*rcvd))
    assert error.sent == (None if sent is None else Close(*sent))
    assert error.rcvd_then_sent is (order if rcvd and sent else None)


@pytest.mark.parametrize(
    ("close", "text"),
    [
        (Close(1000), "1000 (normal closure)"),
        (Close(CloseCode.GOING_AWAY, "later"), "1001 (going away) later"),
        (Close(1005), "1005 (no code received)"),
        (Close(3000), "3000 (registered)"),
        (Close(4999, "x"), "4999 (private use) x"),
        (Close(1004), "1004 (unknown)"),
        (Close(2999), "2999 (unknown)"),
        (Close(5000), "5000 (unknown)"),
    ],
)
def test_close_says_what_its_code_means(close, text):
    assert str(close) == text
    with pytest.raises(AttributeError):
        close.code = 1


def test_every_close_code_has_a_meaning():
    assert set(codes.MEANINGS) == set(CloseCode)


def test_numbers_are_those_of_the_RFC():
    assert [int(state) for state in State] == [0, 1, 2, 3]
    assert [state.name for state in State] == ["CONNECTING", "OPEN", "CLOSING", "CLOSED"]
    assert {one.name: int(one) for one in Opcode} == {
        "CONT": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10,
    }  # fmt: skip
    assert [int(code) for code in CloseCode] == [*range(1000, 1004), *range(1005, 1016)]
