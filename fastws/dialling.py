"""
Dialling: from a host, or the path of a Unix socket, to a socket that is connected.

In: names and addresses. Out: a non-blocking socket, or OSError that tells of every address that was tried.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any

from fastws.uri import authority

LocalAddress = tuple[str, int]
# As loop.getaddrinfo gives it.
Address = tuple[int, int, int, str, Any]


async def connect_host(
    loop: asyncio.AbstractEventLoop, host: str, port: int, family: int, local_addr: LocalAddress | None
) -> socket.socket:
    """
    Try the addresses of a host one after the other, and return the first socket that connects.

    Args:
        family: only addresses of that family; 0: of any.
        local_addr: a pair of host and port to connect from.
    """
    if ":" in host:
        host = host.replace("%25", "%")  # a zone, RFC 6874 2
    local = () if local_addr is None else await resolve(loop, *local_addr, family)
    addresses = await resolve(loop, host, port, family)
    errors: list[OSError] = []
    for address in addresses:
        try:
            return await connect_socket(loop, address, local)
        except OSError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    told = "; ".join(map(str, errors)) or "it has no address"
    code = errors[-1].errno if errors else errno.EADDRNOTAVAIL
    raise OSError(code, f"cannot connect to {authority(host, port)}: {told}")


async def connect_path(loop: asyncio.AbstractEventLoop, path: str) -> socket.socket:
    """Return a socket that is connected to a Unix socket."""
    return await connect_socket(loop, (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path), ())


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int, family: int) -> Sequence[Address]:
    """Return the addresses of a host, in the system's order."""
    return await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)


async def connect_socket(
    loop: asyncio.AbstractEventLoop, address: Address, local: Sequence[Address]
) -> socket.socket:
    """Return a non-blocking socket that is connected to an address, from one of `local` if there are any."""
    family, kind, protocol, _, target = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if local:
            bind(sock, [one for one in local if one[0] == family])
        disable_nagle(sock)
        await loop.sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


def bind(sock: socket.socket, local: Sequence[Address]) -> None:
    error = OSError(errno.EADDRNOTAVAIL, "no local address is of the family of the server's")
    for address in local:
        try:
            sock.bind(address[4])
        except OSError as failed:
            error = OSError(failed.errno, f"cannot connect from {address[4]}: {failed.strerror}")
        else:
            return
    raise error


def disable_nagle(sock: socket.socket) -> None:
    # A frame leaves at once, though the answer to the one before is outstanding.
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
