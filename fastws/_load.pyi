from collections.abc import Sequence

from typing_extensions import disjoint_base

class LoadError(Exception):
    """The plan cannot be carried out: what was seen, what is allowed."""

class Sample:
    """What has happened since the last `Load.take()`; counts and seconds are of that time alone."""

    seconds: float
    cpu_seconds: float
    waited_seconds: float
    messages: int
    handshakes: int
    sent_bytes: int
    received_bytes: int
    connections: int
    late: int
    unanswered: int
    uncompressed: int
    stuck_closed: int
    latencies: list[tuple[int, int]]
    handshake_latencies: list[tuple[int, int]]
    errors: dict[str, int]

@disjoint_base
class Load:
    """One load generator: WebSocket clients in one thread, on an epoll of their own, in C."""

    def __init__(
        self,
        *,
        address: str,
        port: int = 0,
        unix: str | None = None,
        authority: str,
        path: str = "/",
        headers: Sequence[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        mode: str = "echo",
        connections: int = 1,
        in_flight: int = 1,
        rate: float | None = None,
        kind: str = "binary",
        sizes: Sequence[tuple[int, float]] = ((64, 1.0),),
        fragments: int = 1,
        deflate: bool = False,
        server_no_context: bool = False,
        tls: bool = False,
        server_name: str | None = None,
        cafile: str | None = None,
        insecure: bool = False,
        sources: int = 1,
        stuck: int = 0,
        ramp: float = 0.0,
        plain_request: bool = False,
        expected: str = "echo",
        seed: int = 0,
        strict: bool = False,
        timeout: float = 20.0,
    ) -> None: ...
    def step(self, seconds: float) -> None: ...
    def opened(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def take(self) -> Sample: ...
