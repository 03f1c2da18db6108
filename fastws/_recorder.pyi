from collections.abc import Callable
from typing import Any

from typing_extensions import Buffer, disjoint_base

from fastws._protocol import Protocol
from fastws.extensions import Agreed

@disjoint_base
class Recorder(Protocol):
    def __init__(
        self,
        *,
        max_size: int | None = None,
        text_as: str = "str",
        hold_after_message: bool = False,
        on_event: Callable[[tuple[Any, ...]], object] | None = None,
        client: bool = False,
        streaming: bool = False,
        deflate: Agreed | None = None,
    ) -> None: ...
    @property
    def events(self) -> list[tuple[Any, ...]]: ...
    def receive_data(self, data: Buffer) -> int: ...
    def receive_direct(self, data: bytes) -> int: ...
    def release(self) -> None: ...
    def send(
        self, message: str | Buffer, *, text: bool | None = None, compress: bool | None = None
    ) -> None: ...
    def ping(self, payload: bytes = b"") -> None: ...
    def close(self, code: int | None = 1000, reason: str = "") -> None: ...
    def data_to_send(self) -> bytes: ...
    @property
    def retained(self) -> int: ...
