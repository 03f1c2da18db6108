"""
Exceptions. Names, attributes and inheritance are those of the `websockets` library.

    WebSocketException
        ConnectionClosed
            ConnectionClosedOK, ConnectionClosedError
        InvalidURI
        InvalidProxy
        InvalidHandshake
            SecurityError
                RequestLineTooLong, HeaderLineTooLong, TooManyHeaders
            ProxyError
                InvalidProxyMessage, InvalidProxyStatus
            InvalidMessage, InvalidMethod, InvalidProtocol, InvalidStatus
            InvalidHeader
                InvalidHeaderFormat, InvalidHeaderValue, InvalidOrigin, InvalidUpgrade
            NegotiationError
                DuplicateParameter, InvalidParameterName, InvalidParameterValue
        ProtocolError
        PayloadTooBig
        TooManyFragments
        InvalidState
        ConcurrencyError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastws.codes import Close, CloseCode

if TYPE_CHECKING:
    from fastws.http11 import Response

__all__ = [
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "DuplicateParameter",
    "HeaderLineTooLong",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidHeaderFormat",
    "InvalidHeaderValue",
    "InvalidMessage",
    "InvalidMethod",
    "InvalidOrigin",
    "InvalidParameterName",
    "InvalidParameterValue",
    "InvalidProtocol",
    "InvalidProxy",
    "InvalidProxyMessage",
    "InvalidProxyStatus",
    "InvalidState",
    "InvalidStatus",
    "InvalidURI",
    "InvalidUpgrade",
    "NegotiationError",
    "PayloadTooBig",
    "ProtocolError",
    "ProxyError",
    "RequestLineTooLong",
    "SecurityError",
    "TooManyFragments",
    "TooManyHeaders",
    "WebSocketException",
]

# All constructors hand their arguments to Exception, so that copies and pickles work.


class WebSocketException(Exception):
    """What all exceptions of the library are."""


class ConnectionClosed(WebSocketException):
    """
    The connection is closed, or closing.

    Attributes:
        rcvd: the peer's `Close`; None if there was none.
        sent: our `Close`; None if there was none.
        rcvd_then_sent: whether the peer's came first; None unless there are both.
    """

    def __init__(self, rcvd: Close | None, sent: Close | None, rcvd_then_sent: bool | None = None) -> None:
        super().__init__(rcvd, sent, rcvd_then_sent)
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent

    @property
    def code(self) -> int:
        """The peer's close code, RFC 6455 7.1.5: 1006 when no Close came."""
        return CloseCode.ABNORMAL_CLOSURE if self.rcvd is None else self.rcvd.code

    @property
    def reason(self) -> str:
        """The peer's reason, or ""."""
        return "" if self.rcvd is None else self.rcvd.reason

    def __str__(self) -> str:
        if self.rcvd is None and self.sent is None:
            return "connection lost without a Close frame"
        if self.sent is None:
            return f"received {self.rcvd}, sent no Close frame"
        if self.rcvd is None:
            return f"sent {self.sent}, received no Close frame"
        if self.rcvd_then_sent:
            return f"received {self.rcvd}, then sent {self.sent}"
        return f"sent {self.sent}, then received {self.rcvd}"


class ConnectionClosedOK(ConnectionClosed):
    """Both sides closed with 1000, 1001 or no code."""


class ConnectionClosedError(ConnectionClosed):
    """A side closed for a fault, or without a closing handshake."""


CLEAN = frozenset([CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD])


def closed_exception(
    rcvd: tuple[int, str] | None, sent: tuple[int, str] | None, rcvd_then_sent: bool
) -> ConnectionClosed:
    """
    Return the exception for a connection that was closed this way.

    Args:
        rcvd: code and reason of the peer's Close, None without one.
        sent: the same of ours.
        rcvd_then_sent: which came first; counts only when there are both.
    """
    theirs = None if rcvd is None else Close(*rcvd)
    ours = None if sent is None else Close(*sent)
    if theirs is None or ours is None:
        return ConnectionClosedError(theirs, ours)
    if theirs.code in CLEAN and ours.code in CLEAN:
        return ConnectionClosedOK(theirs, ours, rcvd_then_sent)
    return ConnectionClosedError(theirs, ours, rcvd_then_sent)


class InvalidURI(WebSocketException):
    """
    A URI is not one of a WebSocket server, RFC 6455 3.

    Attributes:
        uri: as it was given.
        msg: what is wrong.
    """

    def __init__(self, uri: str, msg: str) -> None:
        super().__init__(uri, msg)
        self.uri = uri
        self.msg = msg

    def __str__(self) -> str:
        return f"URI {self.uri} cannot be used: {self.msg}"


class InvalidProxy(WebSocketException):
    """
    The address of a proxy cannot be used.

    Attributes:
        proxy: as it was given.
        msg: what is wrong.
    """

    def __init__(self, proxy: str, msg: str) -> None:
        super().__init__(proxy, msg)
        self.proxy = proxy
        self.msg = msg

    def __str__(self) -> str:
        return f"proxy {self.proxy} cannot be used: {self.msg}"


class InvalidHandshake(WebSocketException):
    """The opening handshake failed."""


class SecurityError(InvalidHandshake):
    """A request exceeds a limit."""


class RequestLineTooLong(SecurityError):
    """The request line exceeds its limit."""


class HeaderLineTooLong(SecurityError):
    """A header field exceeds its limit."""


class TooManyHeaders(SecurityError):
    """There are more header fields than allowed."""


class ProxyError(InvalidHandshake):
    """There is no way through the proxy."""


class InvalidProxyMessage(ProxyError):
    """A proxy's response is not valid HTTP."""


class InvalidProxyStatus(ProxyError):
    """
    A proxy's response does not accept the connection.

    Attributes:
        response: the `Response`, without its body.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        return f"the proxy answers with status {self.response.status_code:d}, allowed are 200 to 299"


class InvalidMessage(InvalidHandshake):
    """A request or response is not valid HTTP/1.1."""


class InvalidMethod(InvalidHandshake):
    """
    The method is not GET.

    Attributes:
        method: of the request.
    """

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.method = method

    def __str__(self) -> str:
        return f"method is {self.method}, allowed is GET"


class InvalidProtocol(InvalidHandshake):
    """
    The version of HTTP is not 1.1.

    Attributes:
        protocol: of the request, as "HTTP/1.0".
    """

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)
        self.protocol = protocol

    def __str__(self) -> str:
        return f"version is {self.protocol}, a WebSocket needs HTTP/1.1"


class InvalidStatus(InvalidHandshake):
    """
    A server's response does not accept the connection.

    Attributes:
        response: the `Response`.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        return f"the server answers with status {self.response.status_code:d}, not with 101"


class InvalidHeader(InvalidHandshake):
    """
    A header field is missing or wrong.

    Attributes:
        name: of the field.
        value: None when it is missing.
    """

    def __init__(self, name: str, value: str | None = None) -> None:
        super().__init__(name, value)
        self.name = name
        self.value = value

    def __str__(self) -> str:
        if self.value is None:
            return f"field {self.name} is missing"
        if not self.value:
            return f"field {self.name} is empty"
        return f"field {self.name} is not valid: {self.value}"


class InvalidHeaderFormat(InvalidHeader):
    """
    A header field does not follow its grammar.

    Args:
        name: of the field.
        error: what was expected.
        header: the field's value.
        pos: where in it.
    """

    def __init__(self, name: str, error: str, header: str, pos: int) -> None:
        super().__init__(name, f"{error} at {pos} in {header}")
        self.args = (name, error, header, pos)


class InvalidHeaderValue(InvalidHeader):
    """A header field has a value that is not allowed."""


class InvalidOrigin(InvalidHeader):
    """The request's origin is not allowed."""

    def __init__(self, origin: str | None) -> None:
        super().__init__("Origin", origin)
        self.args = (origin,)


class InvalidUpgrade(InvalidHeader):
    """Upgrade or Connection does not ask for a WebSocket connection."""


class NegotiationError(InvalidHandshake):
    """No subprotocol or extension was agreed on; `select_subprotocol` may raise it."""


class DuplicateParameter(NegotiationError):
    """
    A parameter of an extension is given more than once.

    Attributes:
        name: of the parameter.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"parameter {self.name} is given more than once"


class InvalidParameterName(NegotiationError):
    """
    An extension has no such parameter.

    Attributes:
        name: of the parameter.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"parameter {self.name} is unknown"


class InvalidParameterValue(NegotiationError):
    """
    A parameter of an extension has a value that is not allowed.

    Attributes:
        name: of the parameter.
        value: None when it is missing.
    """

    def __init__(self, name: str, value: str | None) -> None:
        super().__init__(name, value)
        self.name = name
        self.value = value

    def __str__(self) -> str:
        if self.value is None:
            return f"parameter {self.name} has no value"
        if not self.value:
            return f"parameter {self.name} has an empty value"
        return f"parameter {self.name} has the value {self.value}, which is not allowed"


class ProtocolError(WebSocketException):
    """A frame breaks the protocol, RFC 6455 5."""


class PayloadTooBig(WebSocketException):
    """
    A message exceeds the limit.

    Attributes:
        size: bytes of the frame; None when it is not known.
        max_size: the limit for the message, in bytes.
        current_size: bytes of the message before that frame; None at its first.
    """

    def __init__(self, size: int | None, max_size: int, current_size: int | None = None) -> None:
        super().__init__(size, max_size, current_size)
        self.size = size
        # `max_size` comes as what is left for the frame; in the end it is the message's limit.
        self.max_size = max_size + (current_size or 0)
        self.current_size = current_size

    def __str__(self) -> str:
        payload = "payload" if self.size is None else f"payload is {self.size} bytes"
        before = "" if self.current_size is None else f" after {self.current_size} in earlier frames"
        verb = " exceeds the limit of" if self.size is None else ", limit is"
        return f"{payload}{before}{verb} {self.max_size} bytes"


class TooManyFragments(WebSocketException):
    """A message comes in more fragments than allowed."""

    def __init__(self, max_fragments: int) -> None:
        super().__init__(max_fragments)
        self.max_fragments = max_fragments

    def __str__(self) -> str:
        return f"message has more than {self.max_fragments} fragments"


class InvalidState(WebSocketException, AssertionError):
    """The connection is not in a state that allows the call."""


class ConcurrencyError(WebSocketException, RuntimeError):
    """Two coroutines do what only one may do at a time."""
