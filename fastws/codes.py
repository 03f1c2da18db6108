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


def meaning(code: int) -> str:
    """Return what a close code says, in words."""
    try:
        return CloseCode(code).name.lower().replace("_", " ")
    except ValueError:
        pass
    if 3000 <= code < 4000:
        return "registered"
    if 4000 <= code < 5000:
        return "private use"
    return "unknown"


class Close(NamedTuple):
    """A Close frame's content: 1005 stands for none."""

    code: int
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.code} ({meaning(self.code)})"
        return f"{text} {self.reason}" if self.reason else text
