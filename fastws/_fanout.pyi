from typing_extensions import disjoint_base

@disjoint_base
class Frames:
    def __new__(cls, compress: bool | None = None) -> Frames: ...
