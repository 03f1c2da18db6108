from typing_extensions import disjoint_base

from fastws._carrying import Carrying
from fastws._connection import Connection

@disjoint_base
class Encrypting(Carrying):
    def resume_now(self, connection: Connection) -> None: ...
