import asyncio

from typing_extensions import disjoint_base

from fastws._encrypting import Encrypting

@disjoint_base
class Sink:
    @property
    def transport(self) -> asyncio.Transport: ...

@disjoint_base
class Giving(Encrypting):
    def later(self) -> None: ...
