from types import TracebackType
from typing import Any

from typing_extensions import Self, final

class Awaitable:
    def __await__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def throw(
        self,
        kind: BaseException | type[BaseException],
        value: object = None,
        traceback: TracebackType | None = None,
    ) -> Any: ...
    def close(self) -> None: ...

@final
class Ready(Awaitable):
    def send(self, value: Any) -> Any: ...

@final
class Waiting(Awaitable):
    def send(self, value: Any) -> Any: ...

@final
class Failing(Awaitable):
    def send(self, value: Any) -> Any: ...

@final
class Pinged(Awaitable):
    def send(self, value: Any) -> Any: ...
