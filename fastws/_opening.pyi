import asyncio
from typing import Any

from typing_extensions import disjoint_base

from fastws._endpoint import Endpoint
from fastws.http11 import Request, Response

@disjoint_base
class Opening(Endpoint):
    @property
    def handler(self) -> Any: ...
    @property
    def subprotocol(self) -> str | None: ...
    @property
    def request(self) -> Request: ...
    @property
    def response(self) -> Response | None: ...
    def negotiation_done(self, task: asyncio.Task[Any]) -> None: ...
    def opening_done(self, future: asyncio.Future[Any]) -> None: ...
