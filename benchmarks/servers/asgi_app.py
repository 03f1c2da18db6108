"""The ASGI applications that uvicorn and granian serve for bench.py, written without a framework."""

from __future__ import annotations

from typing import Any


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send each message back."""
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            break
        await send(answer(event))


senders: set[Any] = set()


async def broadcast(scope: Any, receive: Any, send: Any) -> None:
    """
    Send each message to every connection, its sender included, one after another.

    ASGI has no way to send without waiting: one that does not read holds up the others.
    """
    await receive()
    await send({"type": "websocket.accept"})
    senders.add(send)
    try:
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                break
            message = answer(event)
            for each in tuple(senders):
                await each(message)
    finally:
        senders.discard(send)


def answer(event: Any) -> dict[str, Any]:
    data = event.get("bytes")
    if data is not None:
        return {"type": "websocket.send", "bytes": data}
    return {"type": "websocket.send", "text": event["text"]}
