from fastws._connection import Connection
from fastws._topics import Topic, Topics
from fastws.backplane.engine import Entry

def receive(
    topics: Topics,
    name: str,
    epoch: str,
    sequence: int,
    wall: float,
    key: str | None,
    frame: bytes,
    compress: bool | None,
) -> int: ...
def recover(
    topics: Topics, name: str, history: list[Entry], retained: list[Entry], begun: dict[str, int]
) -> tuple[int, int]: ...
def unwanted(topics: Topics, name: str) -> None: ...
def audience(topics: Topics, name: str) -> set[Connection]: ...
def keeping(topics: Topics) -> list[Topic]: ...
