from typing_extensions import disjoint_base

from fastws._encrypting import Encrypting

@disjoint_base
class Writing(Encrypting):
    def later(self) -> None: ...
