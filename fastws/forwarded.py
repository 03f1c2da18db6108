"""
Proxies that are trusted, and what they say of the client in header fields: X-Forwarded-For, and Forwarded,
RFC 7239.

In: addresses and networks; the fields of a request. Out: whether to believe an address, and the client's.

A field is read from its end, where the nearest proxy has added what it saw. Whoever is no trusted proxy is
the client: what stands before that is the client's own claim.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from fastws.headers import Headers

__all__ = ["SOURCES", "Proxies"]

# Where the address comes from, as an option names it.
SOURCES = ("X-Forwarded-For", "Forwarded", "PROXY")

UNIX = "unix"
# RFC 7239 4: a token, or a quoted string; values of "for" that name a node.
PAIR = re.compile(
    r"""\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)|"((?:[^"\\]|\\.)*)")\s*"""
)
NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """
    The proxies in front of a server, and how they tell who the client is.

    Args:
        trusted: addresses and networks, "10.0.0.7", "10.0.0.0/8", "fd00::/8"; "unix" is whoever connects to a
            Unix socket; "*" is whoever connects, for servers that nobody but the proxy can reach.
        source: "X-Forwarded-For", "Forwarded" or "PROXY". Only that one is believed: a proxy passes on what
            it does not know.

    Raises: ValueError for what is no address or network, and for another source.
    """

    def __init__(self, trusted: Sequence[str], source: str = SOURCES[0]) -> None:
        if isinstance(trusted, (str, bytes)):
            raise TypeError(f"trusted_proxies is {trusted!r}, expected a sequence of addresses and networks")
        by_name = {name.lower(): name for name in SOURCES}
        if not isinstance(source, str) or source.lower() not in by_name:
            raise ValueError(f"address_from is {source!r}, allowed are {', '.join(SOURCES)}")
        self.source = by_name[source.lower()]
        self._all = "*" in trusted
        self._unix = UNIX in trusted
        self._networks: list[Network] = []
        for one in trusted:
            if one not in ("*", UNIX):
                try:
                    self._networks.append(ipaddress.ip_network(one))
                except ValueError as error:
                    raise ValueError(f"trusted_proxies has {one!r}: {error}") from None
        self._is_trusted = functools.lru_cache(maxsize=1024)(self._look_up)

    @property
    def in_stream(self) -> bool:
        """Whether the address comes before all else, and not in a header field."""
        return self.source == "PROXY"

    def trusts(self, address: Any) -> bool:
        """Tell whether an address as a socket has it is a trusted proxy's."""
        if self._all:
            return True
        if isinstance(address, tuple):
            return self._is_trusted(address[0])
        # Of a Unix socket: a name that whoever connects has chosen, "10.0.0.1" perhaps, or none.
        return self._unix

    def _look_up(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def client_of(self, headers: Headers, peer: Any) -> Any:
        """
        Return the address of the client of a request.

        Args:
            headers: the request's.
            peer: whom the connection comes from, as sockets have it.

        Returns: host and port, the port 0 where it is not told, and for IPv6 a 4-tuple; `peer` when that is
            not trusted, or nothing is told.
        """
        if self.in_stream or not self.trusts(peer):
            return peer
        found = peer
        nodes = forwarded(headers) if self.source == "Forwarded" else x_forwarded_for(headers)
        for node in reversed(nodes):
            address = parse_node(node)
            if address is None:
                break  # "unknown", a name of the proxy's own, or rubbish: what is known ends here
            found = address
            if not self._is_trusted(address[0]):
                break
        return found


def x_forwarded_for(headers: Headers) -> list[str]:
    """Return the addresses in X-Forwarded-For, the client's claim first."""
    return [one.strip() for value in headers.get_all("X-Forwarded-For") for one in value.split(",")]


def forwarded(headers: Headers) -> list[str]:
    """Return the values of "for" in Forwarded, RFC 7239 4; "" for an element that has none."""
    nodes = []
    for value in headers.get_all("Forwarded"):
        for element in split(value, ","):
            node = ""
            for part in split(element, ";"):
                match = PAIR.fullmatch(part)
                if match is None:
                    node = ""
                    break
                if match[1].lower() == "for":
                    node = match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3])
            nodes.append(node)
    return nodes


def split(value: str, separator: str) -> list[str]:
    """
    Split at a separator that is outside of quoted strings, which are told from the end on.

    What a trusted proxy has appended is then read as meant, whatever quote a client has left open before it.
    """
    parts, end, quoted = [], len(value), False
    for i in range(len(value) - 1, -1, -1):
        character = value[i]
        if character == '"':
            before = value[:i] if i and value[i - 1] == "\\" else ""
            quoted ^= (len(before) - len(before.rstrip("\\"))) % 2 == 0
        elif character == separator and not quoted:
            parts.append(value[i + 1 : end])
            end = i
    parts.append(value[:end])
    return parts[::-1]


def parse_node(node: str) -> tuple[Any, ...] | None:
    """Return the address that a node stands for, RFC 7239 6; None for "unknown" and names."""
    port = 0
    try:
        address = ipaddress.ip_address(node)
    except ValueError:
        match = NODE.fullmatch(node)
        if match is None:
            return None
        try:
            address = ipaddress.ip_address(match[1] or match[2])
        except ValueError:
            return None
        port = int(match[3] or 0)
        if port > 65535 or (match[1] is not None and address.version == 4):
            return None
    if address.version == 4:
        return str(address), port
    return str(address).partition("%")[0], port, 0, 0
