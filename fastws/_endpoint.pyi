import asyncio

from typing_extensions import disjoint_base

from fastws._protocol import Protocol

@disjoint_base
class Carrier:
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

@disjoint_base
class Extras: ...

@disjoint_base
class Endpoint(Protocol):
    @property
    def latency(self) -> float: ...
