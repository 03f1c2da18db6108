import asyncio
from typing import Any

from typing_extensions import disjoint_base

from fastws._sending import Sending

@disjoint_base
class Handling(Sending):
    def task_done(self, task: asyncio.Task[Any]) -> None: ...
    def main_done(self, task: asyncio.Task[Any]) -> None: ...
