"""
systemd: sockets that it opened for us, and what it wants to hear, sd_listen_fds(3) and sd_notify(3).

In: the environment. Out: listening sockets, and datagrams to the service manager. Nothing happens where the
environment says nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


def listen_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """
    Return the sockets that were passed for socket activation, and take the variables away.

    Raises: ValueError for descriptors that are no listening stream sockets, and OSError for those that are no
        sockets.
    """
    pid, count = environ.get("LISTEN_PID"), environ.get("LISTEN_FDS")
    # Those of another process were inherited by mistake, and are left alone.
    if pid is None or count is None or pid != str(os.getpid()):
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    sockets = []
    for number in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError(f"descriptor {number} of the service manager is no stream socket that listens")
        sockets.append(sock)
    return sockets


class Notifier:
    """
    Tells the service manager how the service is.

    Attributes:
        is_heard: there is a service manager that wants to hear.
        interval: seconds after which it takes us for dead if `alive` was not called; None: it does not watch.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", None)
        self.is_heard = self._address is not None
        self._status = ""
        self.interval: float | None = None
        usec, pid = environ.pop("WATCHDOG_USEC", None), environ.pop("WATCHDOG_PID", None)
        if self._address is not None and usec is not None and pid in (None, str(os.getpid())):
            self.interval = int(usec) * 1e-6

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A service manager that is being replaced shall not cost us our life.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send(text.encode())

    def ready(self) -> None:
        """Connections are accepted, for the first time or again after `reloading`."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Configuration and code are being read again; `ready` comes at the end."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """We are not stuck."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say in words how it goes, for `systemctl status`; what was said already is not repeated."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")
