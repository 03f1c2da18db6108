"""Exceptions. Names, attributes and inheritance are those of the `websockets` library.

    WebSocketException
        ConnectionClosed
            ConnectionClosedOK, ConnectionClosedError
        InvalidHandshake
            SecurityError, InvalidMessage, InvalidStatus
            InvalidHeader
                InvalidHeaderFormat, InvalidHeaderValue, InvalidOrigin, InvalidUpgrade
            NegotiationError
        ProtocolError
            PayloadTooBig, InvalidState
        ConcurrencyError
"""

from __future__ import annotations

from fastws.codes import Close, CloseCode

__all__ = [
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidHeaderFormat",
    "InvalidHeaderValue",
    "InvalidMessage",
    "InvalidOrigin",
    "InvalidState",
    "InvalidUpgrade",
    "NegotiationError",
    "PayloadTooBig",
    "ProtocolError",
    "SecurityError",
    "WebSocketException",
]


class WebSocketException(Exception):
    """What all exceptions of the library are."""


class ConnectionClosed(WebSocketException):
    """
    The connection is closed, or closing.

    Attributes:
        rcvd: the peer's `Close`; None if there was none.
        sent: our `Close`; None if there was none.
        rcvd_then_sent: which came first, when there are both.
    """

    def __init__(self, rcvd: Close | None, sent: Close | None, rcvd_then_sent: bool | None = None) -> None:
        super().__init__(rcvd, sent, rcvd_then_sent)
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent

    @property
    def code(self) -> int:
        """The close code, RFC 6455 7.1.5: 1006 when no Close came."""
        return CloseCode.ABNORMAL_CLOSURE if self.rcvd is None else self.rcvd.code

    @property
    def reason(self) -> str:
        """The peer's reason, or ""."""
        return "" if self.rcvd is None else self.rcvd.reason

    def __str__(self) -> str:
        if self.rcvd is None and self.sent is None:
            return "no Close was sent or received"
        received = "no Close received" if self.rcvd is None else f"received {self.rcvd}"
        sent = "no Close sent" if self.sent is None else f"sent {self.sent}"
        return f"{received}; {sent}" if self.rcvd_then_sent else f"{sent}; {received}"


class ConnectionClosedOK(ConnectionClosed):
    """Both sides closed with 1000, 1001 or no code."""


class ConnectionClosedError(ConnectionClosed):
    """A side closed for a fault, or without a closing handshake."""


NORMAL = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD)


def closed_exception(
    rcvd: tuple[int, str] | None, sent: tuple[int, str] | None, rcvd_then_sent: bool
) -> ConnectionClosed:
    """Return the exception for a connection that was closed this way."""
    theirs = None if rcvd is None else Close(*rcvd)
    ours = None if sent is None else Close(*sent)
    order = rcvd_then_sent if theirs is not None and ours is not None else None
    fine = (theirs is None or theirs.code in NORMAL) and ours is not None and ours.code in NORMAL
    if fine and theirs is not None:
        return ConnectionClosedOK(theirs, ours, order)
    return ConnectionClosedError(theirs, ours, order)


class InvalidHandshake(WebSocketException):
    """The opening handshake failed."""


class SecurityError(InvalidHandshake):
    """A request, or part of it, exceeds a limit."""


class InvalidMessage(InvalidHandshake):
    """A request or response is not valid HTTP."""


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
            return f"{self.name} is missing"
        if not self.value:
            return f"{self.name} is empty"
        return f"{self.name} is invalid: {self.value}"


class InvalidHeaderFormat(InvalidHeader):
    """A header field does not follow its grammar."""


class InvalidHeaderValue(InvalidHeader):
    """A header field has a value that is not allowed."""


class InvalidOrigin(InvalidHeader):
    """The request's origin is not allowed."""

    def __init__(self, origin: str | None) -> None:
        super().__init__("Origin", origin)


class InvalidUpgrade(InvalidHeader):
    """The request does not ask for a WebSocket connection."""


class NegotiationError(InvalidHandshake):
    """No subprotocol or extension was agreed on."""


class ProtocolError(WebSocketException):
    """A peer broke the protocol, RFC 6455."""


class PayloadTooBig(ProtocolError):
    """A message exceeds a limit."""


class InvalidState(ProtocolError, AssertionError):
    """The connection is not in a state that allows the call."""


class ConcurrencyError(WebSocketException, RuntimeError):
    """Two coroutines do what only one may do at a time."""
