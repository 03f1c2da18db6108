from typing_extensions import disjoint_base

from fastws._endpoint import Carrier

@disjoint_base
class Slots(Carrier):
    @property
    def closed(self) -> bool: ...
    def raise_pending(self) -> None: ...
    def timer_due(self) -> None: ...
