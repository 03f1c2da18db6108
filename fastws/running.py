"""Running a server as a program's whole purpose: an event loop, signals, workers, a line for people.

In: what `serve` takes. Out: nothing until a signal ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from fastws._kernels import kernels
from fastws.backplane.among_workers import (
    directory_for_sockets,
    has_backplane,
    remove_directory_for_sockets,
    settle,
)
from fastws.checks import numbers
from fastws.draining import RATE, TIMEOUT
from fastws.listening import listen_for_workers, listen_unix
from fastws.reloading import check_reload, watch
from fastws.server import Server
from fastws.serving import serve
from fastws.supervisor import Supervisor
from fastws.systemd import Notifier, listen_sockets
from fastws.targets import load_lifespan, load_target
from fastws.tls import server_context
from fastws.uri import authority
from fastws.workers import Duty, Post

Lifespan = Callable[[Server], AbstractAsyncContextManager[Any]]

BACKLOG = 4096
# Seconds between words for the service manager on how many connections there are.
STATUS_PERIOD = 5.0


def run(
    handler: object = None,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int | None = 8765,
    *,
    workers: int | None = None,
    reload: bool | str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = False,
    lifespan: Lifespan | str | None = None,
    ready: Callable[[Server], object] | None = None,
    started: Callable[[str], object] | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    drain_rate: float | None = RATE,
    drain_timeout: float | None = TIMEOUT,
    stall_timeout: float | None = 60,
    **options: Any,
) -> None:
    """
    Serve until SIGINT or SIGTERM, on uvloop. Blocks.

    The first signal closes every connection with 1001, see `Server.drain`; a second one drops them at once.
    Sockets that systemd passes take the place of host and port, and it is told how the service is.
    SIGUSR1 logs how many connections there are.

    Args:
        handler: as for `serve`; or its name, "module:name", which is imported when a server starts.
        host, port, options: as for `serve`.
        workers: so many processes serve the port, and this one supervises them: it replaces those that end,
            and on SIGHUP all, one after another, without refusing a connection. Code is read anew where
            `handler` and `lifespan` are names. What one publishes reaches the subscribers of all, and what
            topics keep is passed on to who replaces it, over a `local` backplane unless `backplane` or
            FASTWS_BACKPLANE says otherwise. None: this process serves.
        reload: replace the workers (one, if `workers` does not say) when a Python file changes in the current
            directory, or in these directories. Needs watchfiles, and the name of a handler.
        lifespan: called with the server; an async context manager around its life, where a
            producer starts and stops. Or its name, "module:name", as for `handler`. In each worker.
        ready: called with the server when it accepts connections. In each worker.
        started: called with a line for people when the server, or every worker, accepts connections.
        certfile: for TLS, a PEM file with the server's certificate and those between it and the root.
            SIGHUP reads it again, for connections to come. Or give a context, as `ssl`.
        keyfile: a PEM file with its key, not encrypted; None: that is in certfile.
        drain_rate: connections a second that each process closes at its end, default 2000; None: all at once.
        drain_timeout: seconds for that end, default 10; None: any time.
        stall_timeout: seconds, default 60, that a worker's event loop may be stuck until it is killed and
            replaced; it may take as long, and 60 at least, to start. None: for ever.

    Raises: OSError when an address cannot be used, and ssl.SSLError, which is one, for files that
        are none of TLS; WorkersFailed, a RuntimeError, when workers cannot start, or die again and again;
        RuntimeError inside a running event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(
            "run() starts an event loop, and one is running: use `async with fastws.serve(...)` here"
        )
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers is {workers!r}, allowed are 1 and more, and None for no supervisor")
    numbers(drain_rate=drain_rate, drain_timeout=drain_timeout, stall_timeout=stall_timeout)
    folders = check_reload(reload, handler)
    if keyfile is not None and certfile is None:
        raise ValueError("keyfile is given, and no certfile")
    if certfile is not None and options.get("ssl") is not None:
        raise ValueError("give one of certfile and ssl")
    if options.get("unix") is not None or options.get("sock") is not None:
        host = port = None
    given = listen_sockets()
    if given:
        options = {name: value for name, value in options.items() if name != "unix"} | {"sock": given}
        host = port = None
    program = Program(
        handler, host, port, options, lifespan, ready, started, certfile, keyfile, drain_rate, drain_timeout
    )
    notifier = Notifier()
    if workers is None and folders is None:
        loop_for(Life(program.loaded()).alone(notifier))
    else:
        supervise(program, workers or 1, notifier, stall_timeout, folders)


@dataclass(frozen=True)
class Program:
    """What `run` was given, for whichever process serves."""

    handler: object
    host: str | Sequence[str] | None
    port: int | None
    options: dict[str, Any]
    lifespan: Lifespan | str | None
    ready: Callable[[Server], object] | None
    started: Callable[[str], object] | None
    certfile: str | os.PathLike[str] | None
    keyfile: str | os.PathLike[str] | None
    drain_rate: float | None
    drain_timeout: float | None

    def context(self) -> ssl.SSLContext:
        assert self.certfile is not None
        return server_context(self.certfile, self.keyfile)

    def serving(self, sockets: Sequence[socket.socket] | None = None) -> serve:
        """Return the server to be; on these sockets, or where `run` was told."""
        options = dict(self.options)
        host, port = self.host, self.port
        if self.certfile is not None:
            options["ssl"] = self.context()
        if sockets is not None:
            host = port = None
            options.pop("unix", None)
            options["sock"] = sockets
        return serve(self.handler, host, port, **options)

    def loaded(self) -> Program:
        """Return the same with what is there by name imported."""
        handler = load_target(self.handler) if isinstance(self.handler, str) else self.handler
        return dataclasses.replace(self, handler=handler, lifespan=load_lifespan(self.lifespan))


class Life:
    """A server from its start to its end, and what may be asked of it meanwhile."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.server: Server | None = None
        self.asked = 0
        self.replaced = False

    def stop(self, replaced: bool = False) -> None:
        """End: with a closing handshake for each connection when first asked, then at once."""
        self.asked += 1
        if self.asked == 1:
            self.replaced = replaced
        if self.server is not None:
            self.end()

    def stop_once(self, replaced: bool = False) -> None:
        """End as `stop` does at first; when it has been asked for, whoever asked, nothing changes."""
        if not self.asked:
            self.stop(replaced)

    def abort(self) -> None:
        """End at once."""
        self.asked = 1
        self.stop()

    def end(self) -> None:
        assert self.server is not None
        if self.asked == 1:
            self.server.drain(
                rate=self.program.drain_rate, timeout=self.program.drain_timeout, handover=self.replaced
            )
        else:
            self.server.close()
            self.server.abort()
            for task in list(self.server._settings.tasks):
                task.cancel()

    def log(self, text: str, *values: object) -> None:
        logger = logging.getLogger("fastws.server") if self.server is None else self.server.logger
        logger.info(text, *values)

    def count(self) -> int:
        """Return how many connections there are."""
        return 0 if self.server is None else self.server._settings.open_count

    def reload_certificate(self) -> None:
        if self.program.certfile is None:
            self.log("nothing to read again: there is no certfile, and code is for workers to read anew")
            return
        if self.server is None:
            return  # the files have just been read
        try:
            self.server.reload_tls(self.program.context())
        except (OSError, ValueError) as error:
            self.server.logger.error("the certificate stays as it was: %s", error)
        else:
            self.server.logger.info("connections to come get the certificate that was read now")

    async def live(
        self,
        serving: serve,
        signals: dict[int, Callable[[], None]],
        begun: Callable[[Server], object],
        one_of_many: bool = False,
    ) -> None:
        """
        Serve from here to the end; `begun` is called when connections are accepted, and by one of many
        workers when it has what others keep of its topics.
        """
        loop = asyncio.get_running_loop()
        lifespan = self.program.lifespan
        assert not isinstance(lifespan, str)
        # Before anybody can connect: a signal that comes then is not lost, and does not kill.
        for one, function in signals.items():
            loop.add_signal_handler(one, function)
        try:
            server = self.server = await serving
            try:
                async with lifespan(server) if lifespan is not None else _nothing():
                    if self.program.ready is not None:
                        self.program.ready(server)
                    if one_of_many and server.backplane is not None:
                        # Who has it may be the one that ends when this one is ready.
                        await settle(server.backplane)
                    begun(server)
                    if self.asked:
                        self.end()
                    await server.wait_closed()
            finally:
                server.close()
                await server.wait_closed()
        finally:
            for one in signals:
                loop.remove_signal_handler(one)

    async def alone(self, notifier: Notifier) -> None:
        """Serve in a process without a supervisor."""
        loop = asyncio.get_running_loop()
        timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        is_ready = False

        def begun(server: Server) -> None:
            nonlocal is_ready
            if self.program.started is not None:
                self.program.started(describe(server))
            notifier.ready()
            is_ready = True
            if notifier.interval is not None:
                alive()
            if notifier.is_heard:
                status()

        def alive() -> None:
            assert notifier.interval is not None
            notifier.alive()
            timers[alive] = loop.call_later(notifier.interval / 2, alive)

        def status() -> None:
            notifier.status(f"connections: {self.count()}")
            timers[status] = loop.call_later(STATUS_PERIOD, status)

        def stop() -> None:
            notifier.stopping()
            self.stop()

        def reload() -> None:
            if not is_ready:
                self.reload_certificate()
                return  # the manager waits to hear that we are, for the first time
            notifier.reloading()
            self.reload_certificate()
            notifier.ready()

        signals: dict[int, Callable[[], None]] = {
            signal.SIGINT: stop,
            signal.SIGTERM: stop,
            signal.SIGUSR1: lambda: self.log("connections: %d", self.count()),
        }
        # With neither it stays the system's: who closes a terminal ends what runs in it.
        if self.program.certfile is not None or notifier.is_heard:
            signals[signal.SIGHUP] = reload
        try:
            await self.live(self.program.serving(), signals, begun)
        finally:
            for timer in timers.values():
                timer.cancel()

    async def as_worker(self, post: Post, serving: serve) -> None:
        """Serve in a worker."""
        orders: dict[str, Callable[[], None]] = {
            "stop": self.stop_once,
            "drain": functools.partial(self.stop_once, True),
            "abort": self.abort,
        }
        signalled = False

        def terminate() -> None:
            # One that is for the whole group comes here as well as by way of the supervisor: that is once.
            nonlocal signalled
            if signalled:
                self.abort()
            else:
                signalled = True
                self.stop_once()

        duty = Duty(post, asyncio.get_running_loop(), lambda order: orders[order]())
        try:
            await self.live(serving, {signal.SIGTERM: terminate}, duty.ready, True)
        finally:
            duty.end()
            if duty.is_orphan:
                # The supervisor was killed, and cannot do that.
                remove_directory_for_sockets(self.program.options.get("backplane"))


def work(program: Program, post: Post) -> None:
    """Be a worker, from the fork to its end."""
    post.take()
    life: Life | None = None
    try:
        life = Life(program.loaded())
        serving = life.program.serving(post.sockets)
        loop_for(life.as_worker(post, serving))
    except BaseException as error:
        if (life is None or life.server is None) and isinstance(error, (OSError, TypeError, ValueError)):
            post.failed(str(error))
            raise SystemExit(1) from None
        post.failed(f"{type(error).__name__}: {error}")
        raise


def supervise(
    program: Program,
    count: int,
    notifier: Notifier,
    stall_timeout: float | None,
    folders: Sequence[str] | None,
) -> None:
    """Open the sockets, and run workers on them until told to stop. Raises: as `run`."""
    options = dict(program.options)
    backlog = options.get("backlog", BACKLOG)
    unix, sock = options.get("unix"), options.get("sock")
    if not isinstance(program.handler, str):
        program.serving()  # raises for arguments that are wrong, here where they were given
    if not isinstance(program.lifespan, str):
        load_lifespan(program.lifespan)
    if sock is not None:
        own: list[socket.socket] = []
        shared = [sock] if isinstance(sock, socket.socket) else list(sock)
        groups = [shared] * count
    elif unix is not None:
        own = [listen_unix(os.fspath(unix), backlog)]
        groups = [own] * count
    else:
        groups = listen_for_workers(
            program.host, program.port or 0, backlog, count, options.get("reuse_port", False)
        )
        own = [one for group in groups for one in group]
    secure = program.certfile is not None or options.get("ssl") is not None

    def begun() -> None:
        if program.started is not None:
            program.started(
                f"fastws listens on {', '.join(places(groups[0], secure))} "
                f"with {count} worker{'' if count == 1 else 's'} (kernels {kernels()}, loop uvloop)"
            )

    # For one worker, too: while it is replaced there are two.
    directory = None if has_backplane(options) else directory_for_sockets()
    if directory is not None:
        program = dataclasses.replace(program, options=options | {"backplane": f"local://{directory}"})
    try:
        Supervisor(
            functools.partial(work, program),
            groups,
            drain_timeout=program.drain_timeout,
            stall_timeout=stall_timeout,
            notifier=notifier,
            started=begun,
            watch=None if folders is None else functools.partial(watch, folders),
        ).run()
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        for one in own:
            one.close()
        if unix is not None and own:
            with contextlib.suppress(OSError):
                os.unlink(unix)


def loop_for(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on an event loop of uvloop's."""
    import uvloop

    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
        return
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


@contextlib.asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def places(sockets: Sequence[socket.socket], secure: bool) -> list[str]:
    """Return where sockets listen, for people."""
    found = []
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            found.append(f"unix:{sock.getsockname()}")
        else:
            host, port = sock.getsockname()[:2]
            found.append(f"{'wss' if secure else 'ws'}://{authority(host, port)}")
    return found


def describe(server: Server) -> str:
    """Return one line for people: addresses, kernels, loop, limits."""
    loop = type(server.get_loop()).__module__.partition(".")[0]
    settings = server._settings
    return (
        f"fastws listens on {', '.join(places(server.sockets, settings.ssl is not None))} "
        f"(kernels {kernels()}, loop {loop}, at most {settings.max_connections} connections, messages "
        f"{'of any size' if settings.max_size is None else f'up to {settings.max_size} bytes'})"
    )
