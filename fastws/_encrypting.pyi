from typing_extensions import disjoint_base

from fastws._carrying import Carrying

@disjoint_base
class Encrypting(Carrying): ...
