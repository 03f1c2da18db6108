import asyncio
import logging
from collections.abc import Callable
from ssl import SSLContext
from typing import Any

from typing_extensions import disjoint_base

from fastws._topics import Topics
from fastws.forwarded import Proxies
from fastws.handshake import Policy
from fastws.server import Server

@disjoint_base
class Callbacks:
    def __init__(self, functions: dict[str, Callable[..., Any]], bound: bool) -> None: ...
    @property
    def main(self) -> Callable[..., Any] | None: ...
    @property
    def on_open(self) -> Callable[..., Any] | None: ...
    @property
    def on_message(self) -> Callable[..., Any] | None: ...
    @property
    def on_close(self) -> Callable[..., Any] | None: ...
    @property
    def on_ping(self) -> Callable[..., Any] | None: ...
    @property
    def on_pong(self) -> Callable[..., Any] | None: ...
    @property
    def on_drain(self) -> Callable[..., Any] | None: ...
    @property
    def on_error(self) -> Callable[..., Any] | None: ...
    @property
    def bound(self) -> bool: ...

@disjoint_base
class Settings:
    def __init__(
        self,
        *,
        server: Server | None,
        policy: Policy | None,
        make_handler: Callable[[Any], tuple[object, Callbacks]] | None,
        negotiate: Callable[..., Any] | None,
        logger: logging.Logger | logging.LoggerAdapter[logging.Logger],
        max_size: int | None,
        max_queue: int | tuple[int | None, int | None] | None,
        text_as: str,
        write_limit: int | None,
        write_cap: int | None,
        open_timeout: float | None,
        ping_interval: float | None,
        ping_timeout: float | None,
        close_timeout: float | None,
        max_connections: int,
        max_opening: int,
        on_idle: Callable[[], None],
        topics: Topics | None = None,
        ssl: SSLContext | None = None,
        proxies: Proxies | None = None,
    ) -> None: ...
    @property
    def server(self) -> Server | None: ...
    @property
    def policy(self) -> Policy | None: ...
    ssl: SSLContext | None
    @property
    def proxies(self) -> Proxies | None: ...
    @property
    def topics(self) -> Topics | None: ...
    @property
    def make_handler(self) -> Callable[[Any], tuple[object, Callbacks]] | None: ...
    @property
    def negotiate(self) -> Callable[..., Any] | None: ...
    @property
    def logger(self) -> logging.Logger | logging.LoggerAdapter[logging.Logger]: ...
    @property
    def write_limit(self) -> int: ...
    @property
    def write_cap(self) -> int: ...
    @property
    def max_size(self) -> int | None: ...
    @property
    def open_timeout(self) -> float | None: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def open_count(self) -> int: ...
    @property
    def opening_count(self) -> int: ...
    @property
    def tasks(self) -> set[asyncio.Task[Any]]: ...
    @property
    def on_idle(self) -> Callable[[], None]: ...
