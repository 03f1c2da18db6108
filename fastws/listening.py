"""Listening sockets: TCP on all addresses that a name stands for, and Unix sockets.

In: hosts, ports and paths. Out: sockets that listen, in non-blocking hands.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Iterable, Sequence
from typing import Any

# How many free ports are tried where one is to be free at several addresses.
PORT_ATTEMPTS = 16


async def listen(
    loop: asyncio.AbstractEventLoop,
    host: str | Sequence[str] | None,
    port: int,
    backlog: int,
    reuse_port: bool,
) -> list[socket.socket]:
    """
    Return sockets that listen on every address of `host`.

    Args:
        host: a name or address, or several; None is every interface.
        port: 0 picks a free one, the same for all addresses.

    Raises: OSError when an address cannot be used, with the address.
    """
    found: dict[tuple[Any, ...], None] = {}
    for name in names_of(host):
        try:
            addresses = await loop.getaddrinfo(
                name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except socket.gaierror as error:
            raise socket.gaierror(error.errno, f"cannot listen on {name!r}: {error.strerror}") from None
        for family, kind, proto, _, address in addresses:
            found[(family, kind, proto, address)] = None
    return listen_on_all(found, host, port, backlog, reuse_port)


def listen_for_workers(
    host: str | Sequence[str] | None, port: int, backlog: int, count: int, reuse_port: bool
) -> list[list[socket.socket]]:
    """
    Return sockets for `count` processes, each its own on every address of `host`; blocks.

    The kernel spreads connections over those of an address (SO_REUSEPORT). What waits in one is lost with its
    last descriptor, and with nothing else.

    Args:
        host, port: as for `listen`.
        reuse_port: whether others may listen there as well; else that is an error, as it is without workers.
    """
    found: dict[tuple[Any, ...], None] = {}
    for name in names_of(host):
        try:
            addresses = socket.getaddrinfo(
                name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except socket.gaierror as error:
            raise socket.gaierror(error.errno, f"cannot listen on {name!r}: {error.strerror}") from None
        for family, kind, proto, _, address in addresses:
            found[(family, kind, proto, address)] = None
    if not reuse_port and port:
        # The kernel would let another server of the same user share the port, and each get some connections.
        for one in listen_on_all(found, host, port, backlog, False):
            one.close()
    first = listen_on_all(found, host, port, backlog, True)
    groups = [first]
    try:
        for _ in range(count - 1):
            group: list[socket.socket] = []
            groups.append(group)
            for one in first:
                more = listen_tcp(one.family, one.type, one.proto, one.getsockname(), backlog, True)
                assert more is not None  # there is one of the same address
                group.append(more)
    except BaseException:
        for group in groups:
            for one in group:
                one.close()
        raise
    return groups


def names_of(host: str | Sequence[str] | None) -> list[str | None]:
    return [host] if host is None or isinstance(host, str) else list(host)


def listen_on_all(
    found: Iterable[tuple[Any, ...]],
    host: str | Sequence[str] | None,
    port: int,
    backlog: int,
    reuse_port: bool,
) -> list[socket.socket]:
    """Return sockets that listen on all of these addresses that there are; raise OSError without any."""
    for attempt in range(PORT_ATTEMPTS):
        try:
            sockets = listen_at(found, port, backlog, reuse_port)
        except OSError as error:
            # The port that was free at the first address is somebody's at another.
            if port != 0 or error.errno != errno.EADDRINUSE or attempt == PORT_ATTEMPTS - 1:
                raise
        else:
            break
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, f"no address of {host!r} can be used")
    return sockets


def listen_at(
    addresses: Iterable[tuple[Any, ...]], port: int, backlog: int, reuse_port: bool
) -> list[socket.socket]:
    """Return sockets that listen on all of these addresses that there are, or raise the OSError of one."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, address in addresses:
            # "localhost" stands for an IPv4 and an IPv6 address: port 0 is the same for both.
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            listening = listen_tcp(family, kind, proto, address, backlog, reuse_port)
            if listening is not None:
                sockets.append(listening)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def listen_tcp(
    family: int, kind: int, proto: int, address: tuple[Any, ...], backlog: int, reuse_port: bool
) -> socket.socket | None:
    """Return a listening socket; None when the system has no such address family."""
    try:
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(address)
        except OSError as error:
            if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
                sock.close()
                return None
            raise OSError(
                error.errno, f"cannot listen on {address[0]} port {address[1]}: {error.strerror}"
            ) from None
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(path: str, backlog: int) -> socket.socket:
    """Return a socket that listens on `path`; a stale socket file there is replaced, nothing else."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not is_stale(path):
                raise OSError(error.errno, f"cannot listen on {path}: {error.strerror}") from None
            os.unlink(path)
            sock.bind(path)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def is_stale(path: str) -> bool:
    """Tell whether a socket is at `path` that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server whose backlog is full is alive
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
