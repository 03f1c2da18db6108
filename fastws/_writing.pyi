from typing_extensions import disjoint_base

from fastws._slots import Slots

@disjoint_base
class Writing(Slots):
    def later(self) -> None: ...
