from fastws._connection import Connection
from fastws._writing import Writing

class Reading(Writing):
    def resume_now(self, connection: Connection) -> None: ...
