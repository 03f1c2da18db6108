"""The backplane `local`: between the servers of one host, over Unix sockets in a directory.

Each server listens at `<epoch>.sock` and dials all others. In: what is published here, what others want.
Out: packets of others. docs/decisions/0005-backplane.md says why every server dials every other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import stat

from fastws.backplane.engine import Backplane, Delays, Keep, Receiver, wait_while_it_goes_on
from fastws.backplane.links import Inlet, Outlet

SOCKET = re.compile(r"([0-9a-f]{16})\.sock")
# Seconds for others to answer when the server starts: one may be stuck, and what comes later is in time.
START = 0.3
# Seconds after which others do not answer who settles, while nothing comes.
SETTLE = 5.0
# Seconds after which a link that is cut was a good one.
STEADY = 5.0
# Seconds at the end for what others have asked for: as long as it goes on, and in all.
STILL = 3.0
ENDING = 10.0
MAX_PATH = 107  # bytes that sockaddr_un has for a name
MAX_ROUTES = 65536


class LocalBackplane(Backplane):
    """
    Joins the servers of one host.

    Args:
        directory: that they share; made if it is not there, for this user alone.
        limit: bytes that may wait for one other server, see `BackplaneStats.dropped`.

    Raises: ValueError for a path that is too long for a socket.
    """

    tells_loss = True

    def __init__(self, directory: str, receiver: Receiver, limit: int) -> None:
        self.receiver = receiver
        self.limit = limit
        self.outlets: set[Outlet] = set()
        self.routes: dict[str, tuple[Outlet, ...]] = {}
        self._directory = directory
        self._path = self._path_of(receiver.epoch)
        if len(os.fsencode(self._path)) + 4 > MAX_PATH:
            raise ValueError(f"{self._path!r} is too long for a socket, limit is {MAX_PATH - 4} bytes")
        self.inlets: dict[str, Inlet] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._server: asyncio.AbstractServer | None = None
        self._closing = False

    def _path_of(self, epoch: str) -> str:
        return os.path.join(self._directory, f"{epoch}.sock")

    @property
    def peers(self) -> set[str]:
        """The epochs of the other servers that this one receives from."""
        return set(self.inlets)

    @property
    def alone(self) -> bool:
        return not self.outlets

    def epochs(self) -> set[str]:
        """Return the epochs of the other servers that are there, as far as this one knows."""
        return set(self._dialling)

    async def start(self) -> None:
        """Raises: OSError when the directory cannot be used, PermissionError when it is another user's."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        found = os.stat(self._directory)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise PermissionError(f"{self._directory!r} is another user's, or others may write to it")
        sock = socket.socket(socket.AF_UNIX)
        try:
            # Under its name only when it listens: who is refused there knows that nobody will.
            sock.bind(self._path + ".new")
            os.chmod(self._path + ".new", 0o600)
            sock.listen(256)
            os.rename(self._path + ".new", self._path)
            loop = self.receiver.loop
            self._server = await loop.create_unix_server(lambda: Outlet(self), sock=sock)
        except BaseException:
            sock.close()
            for path in (self._path, self._path + ".new"):
                with contextlib.suppress(OSError):
                    os.unlink(path)
            raise
        for name in os.listdir(self._directory):
            match = SOCKET.fullmatch(name)
            if match is not None:
                self.meet(match[1])
        try:
            await asyncio.wait_for(self._linked(), START)
        except (ConnectionError, asyncio.TimeoutError, TimeoutError):
            self.receiver.logger.info("backplane: not all servers in %r answer yet", self._directory)

    async def close(self) -> None:
        """Hand over what waits, and what others have asked for, as long as they go on taking it."""
        self._closing = True
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        if self._server is not None:
            self._server.close()
        for outlet in list(self.outlets):
            outlet.bye()
        await asyncio.gather(*(self._emptied(outlet) for outlet in list(self.outlets)))
        tasks = list(self._dialling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 1.0)

    async def _emptied(self, outlet: Outlet) -> None:
        """Wait until a link has ended, and cut it when it takes too long."""
        await wait_while_it_goes_on(outlet.over, lambda: outlet.handed_over, STILL, ENDING)
        if outlet.transport is not None:
            outlet.transport.abort()

    def meet(self, epoch: str) -> None:
        """Dial a server that is there."""
        if epoch != self.receiver.epoch and epoch not in self._dialling and not self._closing:
            self._dialling[epoch] = self.receiver.loop.create_task(self._dial(epoch))

    async def _dial(self, epoch: str) -> None:
        """Stay connected to a server until it is gone."""
        delays = Delays()
        loop = self.receiver.loop
        path = self._path_of(epoch)
        inlet = None
        linked = 0
        try:
            while inlet is None or not inlet.clean:
                try:
                    _, inlet = await loop.create_unix_connection(lambda: Inlet(self, epoch), path)
                except FileNotFoundError:
                    break
                except ConnectionRefusedError:
                    # It listens as long as it lives: it was killed.
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                    break
                except OSError as error:
                    self.receiver.logger.debug("backplane: %s: %s", path, error)
                    await asyncio.sleep(delays.next())
                    continue
                self._changed.set()
                if linked:
                    self.receiver.stats.reconnects += 1
                linked += 1
                since = loop.time()
                await inlet.over
                if loop.time() - since > STEADY:
                    delays.reset()
                if not inlet.clean:
                    self.receiver.gap(None)
                    await asyncio.sleep(delays.next())
            if inlet is not None:
                inlet.take_over()
        finally:
            self._dialling.pop(epoch, None)
            self._changed.set()
            if inlet is not None and inlet.transport is not None:
                inlet.transport.abort()
                with contextlib.suppress(asyncio.CancelledError):
                    await inlet.over
            self.receiver.gone(epoch)

    async def _linked(self) -> None:
        while self._dialling.keys() - self.inlets.keys():
            self._changed.clear()
            await self._changed.wait()
        await asyncio.gather(*(inlet.ping() for inlet in list(self.inlets.values())))

    async def settle(self) -> None:
        linked = self.receiver.loop.create_task(self._linked())
        try:
            await wait_while_it_goes_on(linked, lambda: self.fetched, SETTLE)
            if not linked.done():
                raise ConnectionError(f"not all servers in {self._directory!r} answer")
            await linked
        finally:
            linked.cancel()

    def want(self, added: set[str], removed: set[str]) -> None:
        for inlet in self.inlets.values():
            inlet.want(added, removed)

    def publish(
        self, topic: str, packet: bytes, rule: str | None, keep: Keep | None, key: str | None
    ) -> None:
        route = self.routes.get(topic)
        if route is None:
            route = tuple(outlet for outlet in self.outlets if outlet.wants(topic))
            if len(self.routes) >= MAX_ROUTES:
                self.routes.clear()
            self.routes[topic] = route
        for outlet in route:
            outlet.send(topic, packet, keep)
