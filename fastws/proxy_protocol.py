"""
The PROXY protocol, without I/O: the line or block in which a proxy says whose connection it passes on.

In: the first bytes of a connection, in any pieces. Out: the address of the client, and where the client's own
bytes begin. Versions 1 and 2, as HAProxy's `doc/proxy-protocol.txt` defines them (2.1 and 2.2 there).
"""

from __future__ import annotations

import re
import socket
import struct
from typing import Any

__all__ = ["InvalidProxyHeader", "ProxyHeader"]

# Section 2.1: the longest line there can be, with its CRLF.
V1_MAX = 107
V1_START = b"PROXY "
V1_END = b"\r\n"
# Numbers without leading zeros, one space between fields, nothing else.
V1_PORT = rb"(0|[1-9][0-9]{0,4})"
V1_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) " + V1_PORT + rb" " + V1_PORT)

V2_START = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD = struct.Struct("!12sBBH")
# Addresses take 216 bytes at most; the rest is for TLVs, of which none is looked at. A proxy that adds a
# client's certificate's fields stays far below.
V2_MAX = 2048

UNIX_SIZE = 108


class InvalidProxyHeader(ValueError):
    """A connection of a trusted proxy does not begin with a valid PROXY header."""


class ProxyHeader:
    """
    Reads the header of one connection.

    Attributes:
        address: the client's, once `receive_data` has said that the header is complete: a pair of host and
            port, a 4-tuple for IPv6, as sockets have them; the path of a Unix socket; None when the proxy
            speaks for itself or does not know, and the connection's own address counts.
    """

    def __init__(self) -> None:
        self.address: Any = None
        self._data = b""

    def receive_data(self, data: bytes) -> int | None:
        """
        Take what was received.

        Returns: None while the header is not complete, and all of `data` was taken; else how many bytes of
            `data` belong to the header. What is behind them is the client's.
        Raises: InvalidProxyHeader as soon as it cannot become one; never later than at 107 bytes of version
            1, or at the first 16 of version 2.
        """
        before = len(self._data)
        self._data += data
        size = self._read(self._data)
        if size is None:
            return None
        self._data = b""
        return size - before

    def _read(self, data: bytes) -> int | None:
        if data.startswith(V1_START[: len(data)]):
            return self._read_v1(data)
        if data.startswith(V2_START[: len(data)]):
            return self._read_v2(data)
        raise InvalidProxyHeader(f"it begins with {data[:12]!r}, not with a PROXY header")

    def _read_v1(self, data: bytes) -> int | None:
        end = data.find(V1_END, 0, V1_MAX)
        if end < 0:
            if len(data) >= V1_MAX:
                raise InvalidProxyHeader(f"its PROXY line does not end within {V1_MAX} bytes")
            return None
        line = data[:end]
        # "UNKNOWN": whatever else the line has is to be ignored.
        if line != b"PROXY UNKNOWN" and not line.startswith(b"PROXY UNKNOWN "):
            match = V1_LINE.fullmatch(line)
            if match is None:
                raise InvalidProxyHeader(f"its PROXY line is {line!r}")
            version, source, target, source_port, target_port = match.groups()
            family = socket.AF_INET if version == b"TCP4" else socket.AF_INET6
            try:
                host = socket.inet_ntop(family, socket.inet_pton(family, source.decode()))
                socket.inet_pton(family, target.decode())
            except OSError:
                raise InvalidProxyHeader(
                    f"its PROXY line has no {version.decode()} addresses: {line!r}"
                ) from None
            if int(source_port) > 65535 or int(target_port) > 65535:
                raise InvalidProxyHeader(f"its PROXY line has a port above 65535: {line!r}")
            self.address = address_of(family, host, int(source_port))
        return end + len(V1_END)

    def _read_v2(self, data: bytes) -> int | None:
        if len(data) < V2_HEAD.size:
            return None
        command: int
        family: int
        length: int
        _, command, family, length = V2_HEAD.unpack_from(data)
        if command >> 4 != 2:
            raise InvalidProxyHeader(f"its PROXY header has version {command >> 4}, allowed are 1 and 2")
        if command & 15 > 1:
            raise InvalidProxyHeader(f"its PROXY header has command {command & 15}, allowed are 0 and 1")
        if length > V2_MAX:
            raise InvalidProxyHeader(f"its PROXY header has {length} bytes, limit is {V2_MAX}")
        if len(data) < V2_HEAD.size + length:
            return None
        # LOCAL, and protocols that are none of a stream's: the block is skipped.
        if command & 15 == 1 and family & 15 == 1:
            self.address = self._v2_address(family >> 4, data[V2_HEAD.size : V2_HEAD.size + length])
        return V2_HEAD.size + length

    def _v2_address(self, family: int, block: bytes) -> Any:
        size = {1: 12, 2: 36, 3: 2 * UNIX_SIZE}.get(family, 0)
        if len(block) < size:
            raise InvalidProxyHeader(f"its PROXY header has {len(block)} bytes, its addresses take {size}")
        if family == 1:
            return address_of(socket.AF_INET, socket.inet_ntop(socket.AF_INET, block[:4]), port_at(block, 8))
        if family == 2:
            return address_of(
                socket.AF_INET6, socket.inet_ntop(socket.AF_INET6, block[:16]), port_at(block, 32)
            )
        if family == 3:
            return block[:UNIX_SIZE].rstrip(b"\0").decode("utf-8", "surrogateescape")
        return None


def port_at(block: bytes, offset: int) -> int:
    return int.from_bytes(block[offset : offset + 2], "big")


def address_of(family: int, host: str, port: int) -> tuple[Any, ...]:
    return (host, port) if family == socket.AF_INET else (host, port, 0, 0)
