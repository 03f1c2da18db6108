"""
permessage-deflate as both sides agree on it, without I/O: RFC 6455 9.1 and RFC 7692 7.1.

In: the values of Sec-WebSocket-Extensions, and what the user wants. Out: an offer, an answer, and
what was agreed on, for `_deflate`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from fastws.exceptions import (
    DuplicateParameter,
    InvalidParameterName,
    InvalidParameterValue,
    NegotiationError,
)

NAME = "permessage-deflate"
SERVER_NO_TAKEOVER, CLIENT_NO_TAKEOVER = "server_no_context_takeover", "client_no_context_takeover"
SERVER_BITS, CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"

# RFC 7692 7.1.2: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
BITS = re.compile("[89]|1[0-5]")
# What a list of extensions is made of: a token, a quoted string, or one of these signs.
PIECE = re.compile(r"[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)|\"((?:[^\"\\]|\\.)*)\"|([,;=]))[ \t]*")
QUOTED_PAIR = re.compile(r"\\(.)")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
LONGEST_CACHED = 256

Parameters = Sequence[tuple[str, str | None]]
Extensions = list[tuple[str, Parameters]]


class Agreed(NamedTuple):
    """
    What a connection does.

    Attributes:
        header: the value of the server's Sec-WebSocket-Extensions.
        out_bits, in_bits: base-2 logarithms of the window that we may use, and the peer. 8 for us
            means not to compress: zlib has no such window.
        out_takeover, in_takeover: whether a message may refer to those before it.
        level, memory_level, min_size: see `Deflate`.
    """

    header: str
    out_bits: int
    in_bits: int
    out_takeover: bool
    in_takeover: bool
    level: int
    memory_level: int
    min_size: int


class Deflate:
    """
    How to compress messages, RFC 7692: for the `compression` of `serve` and `connect`.

    Two ways. Shared, the default: every message is compressed by itself, with one compressor for
    all connections, so that a connection costs no memory and a broadcast is compressed once.
    Dedicated: a compressor and a decompressor for each connection, which may refer to messages
    before; smaller, for tens of KiB of memory each.

    Args:
        shared: False for dedicated.
        level: 1, the fastest and the default, to 9, the smallest.
        memory_level: of a compressor: 1 to 9, default 5; it takes 2 ** (memory_level + 9) bytes and
            2 ** (window bits + 2).
        server_max_window_bits: the server's window is 2 to the power of that, in bytes: 9 to 15.
            Default: 15, and 12 for a dedicated server.
        client_max_window_bits: the client's: 9 to 15. Default: 15, and 12 where a dedicated one
            can say so.
        server_no_context_takeover, client_no_context_takeover: True forbids that side to refer to
            messages before. Default: `shared`.
        min_size: bytes; smaller messages are not compressed unless `send` says so, default 256.

    Raises: ValueError and TypeError for what is not allowed.
    """

    __slots__ = (
        "client_max_window_bits",
        "client_no_context_takeover",
        "level",
        "memory_level",
        "min_size",
        "server_max_window_bits",
        "server_no_context_takeover",
        "shared",
    )

    def __init__(
        self,
        *,
        shared: bool = True,
        level: int = 1,
        memory_level: int = 5,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int | None = None,
        server_no_context_takeover: bool | None = None,
        client_no_context_takeover: bool | None = None,
        min_size: int = 256,
    ) -> None:
        for name, value, least, most in (
            ("level", level, 1, 9),
            ("memory_level", memory_level, 1, 9),
            (SERVER_BITS, server_max_window_bits, 9, 15),
            (CLIENT_BITS, client_max_window_bits, 9, 15),
            ("min_size", min_size, 0, 2**31 - 1),
        ):
            if value is None and name in (SERVER_BITS, CLIENT_BITS):
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}, expected an int")
            if not least <= value <= most:
                raise ValueError(f"{name} is {value}, allowed are {least} to {most}")
        self.shared = bool(shared)
        self.level = level
        self.memory_level = memory_level
        self.server_max_window_bits = server_max_window_bits
        self.client_max_window_bits = client_max_window_bits
        self.server_no_context_takeover = server_no_context_takeover
        self.client_no_context_takeover = client_no_context_takeover
        self.min_size = min_size

    def __repr__(self) -> str:
        return f"Deflate({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def _forbids_takeover(self, side: bool | None) -> bool:
        return self.shared if side is None else side

    # ---------------------------------------------------------------- the server

    def answer(self, offers: Extensions) -> Agreed | None:
        """
        Choose among a client's offers, RFC 7692 5.1.

        Returns: the first that can be accepted; None: none can.
        """
        for name, parameters in offers:
            if name.lower() == NAME:
                try:
                    return self._accept(dictionary(parameters))
                except NegotiationError:
                    continue  # RFC 7692 7: "A server MUST decline an extension negotiation offer"
        return None

    def _accept(self, offered: dict[str, str | None]) -> Agreed:
        header = NAME
        # RFC 7692 7.1.1.1: "A server accepts an extension negotiation offer that includes the
        # "server_no_context_takeover" extension parameter by including" it in its response.
        forbidden = SERVER_NO_TAKEOVER in offered or self._forbids_takeover(self.server_no_context_takeover)
        if forbidden:
            header += f"; {SERVER_NO_TAKEOVER}"
        client_forbidden = CLIENT_NO_TAKEOVER in offered or self._forbids_takeover(
            self.client_no_context_takeover
        )
        if client_forbidden:
            header += f"; {CLIENT_NO_TAKEOVER}"
        out_bits = self.server_max_window_bits or (15 if self.shared else 12)
        if SERVER_BITS in offered:
            limit = int(offered[SERVER_BITS] or 0)
            if limit == 8:
                raise InvalidParameterValue(SERVER_BITS, "8")  # zlib has no such window
            out_bits = min(out_bits, limit)
            header += f"; {SERVER_BITS}={out_bits}"
        in_bits = 15
        if CLIENT_BITS in offered:
            # RFC 7692 7.1.2.2: only then may the response say so.
            wanted = self.client_max_window_bits or (15 if self.shared else 12)
            in_bits = min(wanted, int(offered[CLIENT_BITS] or 15))
            if in_bits < 15:
                header += f"; {CLIENT_BITS}={in_bits}"
        return self._agreed(header, out_bits, in_bits, not forbidden, not client_forbidden)

    # ---------------------------------------------------------------- the client

    def offer(self) -> str:
        """Return the value of a client's Sec-WebSocket-Extensions."""
        header = NAME
        if self._forbids_takeover(self.server_no_context_takeover):
            header += f"; {SERVER_NO_TAKEOVER}"
        if self._forbids_takeover(self.client_no_context_takeover):
            header += f"; {CLIENT_NO_TAKEOVER}"
        if (self.server_max_window_bits or 15) < 15:
            header += f"; {SERVER_BITS}={self.server_max_window_bits}"
        if self.client_max_window_bits is not None:
            return f"{header}; {CLIENT_BITS}={self.client_max_window_bits}"
        return f"{header}; {CLIENT_BITS}"

    def check(self, answers: Extensions, header: str) -> Agreed:
        """
        Judge a server's answer to our offer.

        Raises: NegotiationError for what was not offered, or an offer that was not kept.
        """
        if len(answers) != 1 or answers[0][0].lower() != NAME:
            raise NegotiationError(f"the server chose the extensions {header!r}, offered is {self.offer()!r}")
        chosen = dictionary(answers[0][1], values_needed=True)
        for name, asked in (
            (SERVER_NO_TAKEOVER, self._forbids_takeover(self.server_no_context_takeover)),
            (SERVER_BITS, (self.server_max_window_bits or 15) < 15),
        ):
            if asked and name not in chosen:
                raise NegotiationError(f"the server chose {header!r}, without {name} as offered")
        in_bits = int(chosen.get(SERVER_BITS) or 15)
        if self.server_max_window_bits is not None and in_bits > self.server_max_window_bits:
            raise InvalidParameterValue(SERVER_BITS, str(in_bits))
        out_bits = self.client_max_window_bits or (15 if self.shared else 12)
        out_bits = min(out_bits, int(chosen.get(CLIENT_BITS) or 15))
        forbidden = CLIENT_NO_TAKEOVER in chosen or self._forbids_takeover(self.client_no_context_takeover)
        return self._agreed(header, out_bits, in_bits, not forbidden, SERVER_NO_TAKEOVER not in chosen)

    def _agreed(
        self, header: str, out_bits: int, in_bits: int, out_takeover: bool, in_takeover: bool
    ) -> Agreed:
        return Agreed(
            header,
            out_bits,
            in_bits,
            out_takeover and not self.shared,
            in_takeover,
            self.level,
            self.memory_level,
            self.min_size,
        )


def compression_of(value: object) -> Deflate | None:
    """
    Return the settings that `compression=` stands for.

    Raises: ValueError and TypeError for what is none.
    """
    if value is None or isinstance(value, Deflate):
        return value
    if value == "deflate":
        return Deflate()
    if isinstance(value, str):
        raise ValueError(f"compression is {value!r}, allowed are 'deflate', a Deflate and None")
    raise TypeError(f"compression is {value!r}, expected 'deflate', a Deflate or None")


def dictionary(parameters: Parameters, values_needed: bool = False) -> dict[str, str | None]:
    """
    Judge the parameters of permessage-deflate by themselves, RFC 7692 7.1.

    Args:
        values_needed: it is a response, in which client_max_window_bits has a value, 7.1.2.2.

    Raises: NegotiationError for one that is unknown, given twice, or has a value that it must not.
    """
    found: dict[str, str | None] = {}
    for name, value in parameters:
        if name not in (SERVER_NO_TAKEOVER, CLIENT_NO_TAKEOVER, SERVER_BITS, CLIENT_BITS):
            raise InvalidParameterName(name)
        if name in found:
            raise DuplicateParameter(name)
        if name in (SERVER_NO_TAKEOVER, CLIENT_NO_TAKEOVER):
            valid = value is None
        elif value is None:
            valid = name == CLIENT_BITS and not values_needed
        else:
            valid = BITS.fullmatch(value) is not None
        if not valid:
            raise InvalidParameterValue(name, value)
        found[name] = value
    return found


def parse_extensions(value: str) -> Extensions:
    """
    Parse the value of Sec-WebSocket-Extensions, RFC 6455 9.1.

    Returns: names, each with its parameters in order; the value of a parameter may be None.
    Raises: ValueError for what the grammar does not allow.
    Cost: linear.
    """
    return list(parse_cached(value) if len(value) <= LONGEST_CACHED else parse(value))


def parse(value: str) -> tuple[tuple[str, tuple[tuple[str, str | None], ...]], ...]:
    pieces: list[str] = []  # "t" and a token, "q" and what was quoted, or a sign
    place = 0
    while place < len(value):
        match = PIECE.match(value, place)
        if match is None:
            raise ValueError(f"no token, quoted string or separator at character {place}")
        token, quoted, sign = match.groups()
        if token is not None:
            pieces.append("t" + token)
        elif quoted is not None:
            # RFC 6455 9.1: "When using the quoted-string syntax variant, the value after
            # quoted-string unescaping MUST conform to the 'token' ABNF."
            text = QUOTED_PAIR.sub(r"\1", quoted)
            if not TOKEN.fullmatch(text):
                raise ValueError(f"the quoted string {text!r} is no token")
            pieces.append("q" + text)
        else:
            pieces.append(sign)
        place = match.end()
    found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
    pieces.append(",")
    i = 0
    while i < len(pieces):
        if pieces[i] == ",":
            i += 1  # RFC 9110 5.6.1.2: empty elements are ignored
            continue
        name = word(pieces, i, "t")
        i += 1
        parameters: list[tuple[str, str | None]] = []
        while pieces[i] == ";":
            parameter: str = word(pieces, i + 1, "t")
            i += 2
            setting: str | None = None
            if pieces[i] == "=":
                setting = word(pieces, i + 1, "tq")
                i += 2
            parameters.append((parameter, setting))
        if pieces[i] != ",":
            what = pieces[i] if pieces[i] in ",;=" else pieces[i][1:]
            raise ValueError(f"{what!r} follows {name!r}, expected a comma or semicolon")
        found.append((name, tuple(parameters)))
    if not found:
        raise ValueError("it names no extension")
    return tuple(found)


parse_cached = functools.lru_cache(maxsize=64)(parse)


def word(pieces: list[str], place: int, kinds: str) -> str:
    piece = pieces[place]
    if piece[0] not in kinds or len(piece) == 1:
        raise ValueError(f"{piece!r} where a token is expected")
    return piece[1:]
