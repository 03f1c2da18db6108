import ssl
from typing import Any

from typing_extensions import final

@final
class Tls:
    def __init__(
        self, context: ssl.SSLContext, server_side: bool, server_hostname: str | None = None
    ) -> None: ...
    @property
    def context(self) -> ssl.SSLContext: ...
    @property
    def ssl_object(self) -> ssl.SSLObject | None: ...
    def info(self, name: str) -> Any: ...
