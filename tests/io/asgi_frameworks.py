"""Applications on Starlette and FastAPI, as their users write them, for uvicorn in a process of its own."""

from typing import Annotated

from asgi_apps import note
from fastapi import Cookie, Depends, FastAPI, Query, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute


class Echo(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket, data):
        await websocket.send_text(data)

    async def on_disconnect(self, websocket, close_code):
        note(websocket.scope, code=close_code)


async def iterate(websocket):
    await websocket.accept(subprotocol="chat")
    async for item in websocket.iter_json():
        await websocket.send_json([item])
    note(websocket.scope, ended=True)


async def deny(websocket):
    await websocket.send_denial_response(JSONResponse({"why": "no"}, status_code=418))


async def refuse(websocket):
    await websocket.close(1008)


async def send_to_nobody(websocket):
    await websocket.accept()
    await websocket.receive()
    try:
        while True:
            await websocket.send_bytes(b"x" * 65536)
    except WebSocketDisconnect as error:
        note(websocket.scope, code=error.code)


starlette = Starlette(
    routes=[
        WebSocketRoute("/echo", Echo),
        *(WebSocketRoute(f"/{f.__name__}", f) for f in (iterate, deny, refuse, send_to_nobody)),
    ]
)

fastapi = FastAPI()


async def user(
    websocket: WebSocket, session: Annotated[str | None, Cookie()] = None, q: Annotated[str, Query()] = ""
) -> str:
    if session is None:
        raise WebSocketException(1008, "no session")
    return f"{session}/{q}"


@fastapi.websocket("/items/{item}")
async def items(websocket: WebSocket, item: int, who: Annotated[str, Depends(user)]):
    await websocket.accept()
    try:
        while True:
            text = await websocket.receive_text()
            await websocket.send_json({"item": item, "who": who, "text": text})
    except WebSocketDisconnect as error:
        note(websocket.scope, code=error.code, reason=error.reason)
