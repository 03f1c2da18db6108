from typing_extensions import disjoint_base

VERSION: int
HEADER_SIZE: int
MAX_NAME: int
MAX_FRAME: int
CONTROL_TOPIC: str

@disjoint_base
class Packet:
    @property
    def topic(self) -> str: ...
    @property
    def epoch(self) -> str: ...
    @property
    def key(self) -> str | None: ...
    @property
    def sequence(self) -> int: ...
    @property
    def wall(self) -> float: ...
    @property
    def frame(self) -> bytes: ...
    @property
    def compress(self) -> bool | None: ...
    @property
    def control(self) -> bool: ...

def pack(
    topic: str,
    epoch: str,
    sequence: int,
    wall: float,
    key: str | None,
    frame: bytes,
    compress: bool | None = None,
    control: bool = False,
) -> bytes: ...
def is_message(packet: bytes) -> bool: ...
def unpack(data: bytes) -> Packet: ...
