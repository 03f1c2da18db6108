"""
Where a load goes: a URL into one numeric address, or a Unix socket's path.

In: a ws, wss, ws+unix or wss+unix URL. Out: a `Target`, with its name looked up once.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

from fastws.exceptions import InvalidURI
from fastws.uri import basic_credentials, parse_uri

PROBE_SECONDS = 2.0


class TargetError(ValueError):
    """A URL that names no server, or one that must not be loaded; the text says why."""


@dataclass(frozen=True)
class Target:
    """
    One server.

    Attributes:
        url: as it was given, without a password.
        address: numeric, IPv4 or IPv6; "" for a Unix socket.
        port: 0 for a Unix socket.
        unix: a Unix socket's path.
        authority: the value of the Host field.
        path: the resource name, RFC 6455 3.
        server_name: for TLS; None without.
        headers: what the URL says besides: Authorization.
    """

    url: str
    address: str
    port: int
    unix: str | None
    authority: str
    path: str
    server_name: str | None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_loopback(self) -> bool:
        """It is on this machine, in 127.0.0.0/8: other source addresses can be had."""
        return self.unix is None and self.address.startswith("127.")

    def arguments(self) -> dict[str, Any]:
        """Return what `fastws._load.Load` has to know."""
        return {
            "address": self.address,
            "port": self.port,
            "unix": self.unix,
            "authority": self.authority,
            "path": self.path,
            "tls": self.server_name is not None,
            "server_name": self.server_name,
        }

    def describe(self) -> str:
        """Return where connections go."""
        if self.unix is not None:
            return f"unix:{self.unix}"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def find(url: str, *, allow_remote: bool = False) -> Target:
    """
    Return the server of a URL; its name is looked up here, once.

    Of several addresses the first that takes a connection is chosen.

    Args:
        url: ws or wss; or ws+unix:///path/of/socket:/path/of/request, and wss+unix.
        allow_remote: take addresses that are neither of this machine nor of a private network, too.

    Raises: TargetError.
    """
    scheme, separator, rest = url.partition("+unix://")
    if separator:
        return unix_target(url, scheme, rest)
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        raise TargetError(str(error)) from error
    addresses = look_up(uri.host, uri.port)
    if not allow_remote:
        for address in addresses:
            if not is_near(address):
                raise TargetError(
                    f"{uri.host} is {address}, neither of this machine nor of a private network: "
                    "a load generator must only be let loose on servers of your own; "
                    "if this is one, say --allow-remote"
                )
    headers = (("Authorization", basic_credentials(*uri.user_info)),) if uri.user_info else ()
    scheme = "wss" if uri.secure else "ws"
    return Target(
        url=f"{scheme}://{uri.host_field}{uri.resource_name}",
        address=first_open(addresses, uri.port),
        port=uri.port,
        unix=None,
        authority=uri.host_field,
        path=uri.resource_name,
        server_name=uri.host if uri.secure else None,
        headers=headers,
    )


def unix_target(url: str, scheme: str, rest: str) -> Target:
    """
    Return the server behind a Unix socket; it is "localhost" in Host, and for TLS.

    Raises: TargetError.
    """
    if scheme not in ("ws", "wss"):
        raise TargetError(f"scheme is {scheme + '+unix'!r}, allowed are ws, wss, ws+unix and wss+unix")
    path, _, resource = rest.partition(":")
    if not path.startswith("/"):
        raise TargetError(f"{url!r} has no absolute path, as in ws+unix:///run/server.sock:/chat")
    try:
        name = parse_uri(f"ws://localhost{resource}").resource_name
    except InvalidURI as error:
        raise TargetError(str(error)) from error
    return Target(url, "", 0, path, "localhost", name, "localhost" if scheme == "wss" else None)


def look_up(host: str, port: int) -> list[str]:
    """
    Return the numeric addresses of a host, in the order in which to try them.

    Raises: TargetError.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TargetError(f"{host!r} has no address: {error.strerror or error}") from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def is_near(address: str) -> bool:
    """Tell whether an address is of this machine or a private network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback or ip.is_private or ip.is_link_local


def first_open(addresses: list[str], port: int) -> str:
    """Return the first of several addresses that takes a connection; the first of all when none does."""
    if len(addresses) > 1:
        for address in addresses:
            try:
                socket.create_connection((address, port), PROBE_SECONDS).close()
            except OSError:
                continue
            return address
    return addresses[0]
