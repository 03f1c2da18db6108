from typing_extensions import disjoint_base

from fastws._connection import Connection
from fastws._writing import Writing

@disjoint_base
class Reading(Writing):
    def resume_now(self, connection: Connection) -> None: ...
