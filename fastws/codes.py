"""Numbers of the protocol: opcodes, close codes and states; RFC 6455 4.1, 5.2 and 7.4."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Opcode(enum.IntEnum):
    """What a frame carries, RFC 6455 5.2."""

    CONT = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(enum.IntEnum):
    """Why a connection was closed: RFC 6455 7.4.1 and the IANA registry behind it."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RCVD = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


class State(enum.IntEnum):
    """Where a connection stands, RFC 6455 4.1 and 7.1."""

    CONNECTING, OPEN, CLOSING, CLOSED = range(4)


MEANINGS = {
    CloseCode.NORMAL_CLOSURE: "normal closure",
    CloseCode.GOING_AWAY: "going away",
    CloseCode.PROTOCOL_ERROR: "protocol error",
    CloseCode.UNSUPPORTED_DATA: "unsupported data",
    # The next two, and the last, never stand in a frame: RFC 6455 7.4.1.
    CloseCode.NO_STATUS_RCVD: "no code received",
    CloseCode.ABNORMAL_CLOSURE: "connection lost",
    CloseCode.INVALID_DATA: "invalid data",
    CloseCode.POLICY_VIOLATION: "policy violation",
    CloseCode.MESSAGE_TOO_BIG: "message too big",
    CloseCode.MANDATORY_EXTENSION: "missing extension",
    CloseCode.INTERNAL_ERROR: "internal error",
    CloseCode.SERVICE_RESTART: "service restart",
    CloseCode.TRY_AGAIN_LATER: "try again later",
    CloseCode.BAD_GATEWAY: "bad gateway",
    CloseCode.TLS_HANDSHAKE: "TLS handshake failed",
}


def meaning(code: int) -> str:
    """Return what a close code says, in words."""
    if 3000 <= code < 4000:
        return "registered"
    if 4000 <= code < 5000:
        return "private use"
    return MEANINGS.get(code, "unknown")  # type: ignore[call-overload, no-any-return]


class Close(NamedTuple):
    """A Close frame's content, RFC 6455 5.5.1; code 1005 stands for an empty one."""

    code: int
    reason: str = ""

    def __str__(self) -> str:
        text = f"{int(self.code)} ({meaning(self.code)})"
        return f"{text} {self.reason}" if self.reason else text
