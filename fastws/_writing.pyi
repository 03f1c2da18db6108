from typing_extensions import disjoint_base

from fastws._carrying import Carrying

@disjoint_base
class Writing(Carrying):
    def later(self) -> None: ...
