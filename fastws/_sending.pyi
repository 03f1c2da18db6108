import asyncio
from collections.abc import AsyncIterable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import Buffer, Self, disjoint_base

from fastws._opening import Opening

_Data = str | Buffer

@disjoint_base
class Stream:
    def __new__(cls, compress: bool | None = None) -> Stream: ...

_T = TypeVar("_T", covariant=True)

# A class of its own: type checkers want a plain Coroutine to be awaited, and callbacks need not.
class _Pending(Coroutine[Any, Any, _T]):
    def __await__(self) -> Generator[Any, Any, _T]: ...
    def send(self, value: Any) -> Any: ...
    def throw(self, kind: Any, value: object = None, traceback: TracebackType | None = None) -> Any: ...
    def close(self) -> None: ...

class Sending(Opening):
    def send(
        self,
        message: _Data | Iterable[_Data] | AsyncIterable[_Data],
        *,
        text: bool | None = None,
        compress: bool | None = None,
    ) -> _Pending[None]: ...
    async def send_fragments(
        self, message: Iterable[_Data] | AsyncIterable[_Data], text: bool | None, compress: bool | None
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def ping(self, data: _Data | None = None) -> _Pending[asyncio.Future[float]]: ...
    def pong(self, data: _Data = b"") -> _Pending[None]: ...
    def close(self, code: int | None = 1000, reason: str = "") -> _Pending[None]: ...
    def wait_closed(self) -> _Pending[None]: ...
    def flush(self) -> None: ...
    @property
    def buffered_amount(self) -> int: ...

def broadcast(
    connections: Iterable[Sending],
    message: str | Buffer,
    *,
    text: bool | None = None,
    compress: bool | None = None,
) -> int: ...
