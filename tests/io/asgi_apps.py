"""
ASGI applications for uvicorn in a process of its own, which `uvicorn_process` runs.

What one sees it prints, as `NOTE {"id": ..., ...}`: the id is the query string, each test's own.
"""

import asyncio
import collections
import json

PIECE = b"x" * 64 * 1024
gates = collections.defaultdict(asyncio.Event)
counts = collections.Counter()


def id_of(scope):
    return scope["query_string"].decode()


def note(scope, **facts):
    print("NOTE", json.dumps({"id": id_of(scope), **facts}), flush=True)


async def error_of(awaitable):
    try:
        await awaitable
    except Exception as error:
        return [type(error).__name__, isinstance(error, OSError), str(error)]
    return None


async def accept(receive, send, **more):
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **more})


async def echo(scope, receive, send):
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    note(scope, end=event)


async def tell_scope(scope, receive, send):
    await accept(receive, send)
    scope["state"]["own"] = True  # nobody else's
    text = json.dumps(scope, default=lambda value: value.decode("latin-1"))
    await send({"type": "websocket.send", "text": text})


async def choose(scope, receive, send):
    headers = [(b"X-One", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=\xe9")]
    await accept(receive, send, subprotocol=scope["subprotocols"][-1], headers=headers)
    await receive()


async def dated(scope, receive, send):
    await accept(receive, send, headers=[(b"date", b"today")])
    await receive()


async def refuse(scope, receive, send):
    await receive()
    await send({"type": "websocket.close", "code": 4000})
    note(scope, end=await receive(), error=await error_of(send({"type": "websocket.accept"})))


async def deny(scope, receive, send):
    await receive()
    headers = [(b"x-why", b"because"), (b"content-type", b"text/html")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    wrong = await error_of(send({"type": "websocket.accept"}))
    await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"you"})
    note(scope, end=await receive(), error=wrong)


async def deny_with_invalid(scope, receive, send):
    await receive()
    await send({"type": "websocket.http.response.start", "status": 400, "headers": [(b"x", b"a\r\nb: c")]})
    await send({"type": "websocket.http.response.body", "body": b""})


async def accept_with_invalid(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x", b"a\r\nb: c")]})


async def raise_before(scope, receive, send):
    raise ValueError("the application's own")


async def raise_after(scope, receive, send):
    await accept(receive, send)
    await receive()
    raise ValueError("the application's own")


async def return_before(scope, receive, send):
    await receive()


async def return_after(scope, receive, send):
    await accept(receive, send)
    await receive()


async def return_value(scope, receive, send):
    await accept(receive, send)
    return 5


async def close(scope, receive, send):
    await accept(receive, send)
    await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
    again = await error_of(send({"type": "websocket.send", "text": "x"}))
    note(scope, end=await receive(), error=again)


async def close_with_bad_code(scope, receive, send):
    await accept(receive, send)
    note(scope, error=await error_of(send({"type": "websocket.close", "code": 1006})))
    await receive()


async def send_late(scope, receive, send):
    await accept(receive, send)
    while (event := await receive())["type"] != "websocket.disconnect":
        pass
    await gates[id_of(scope)].wait()
    note(scope, end=event, error=await error_of(send({"type": "websocket.send", "text": "x"})))


async def receive_again(scope, receive, send):
    await accept(receive, send)
    note(scope, ends=[await receive() for _ in range(3)])


async def send_wrong(scope, receive, send):
    errors = [
        await error_of(send({"type": "websocket.send", "text": "x"})),
        await error_of(send({"type": "other"})),
        await error_of(send({"type": "websocket.http.response.start", "status": 999, "headers": []})),
    ]
    await accept(receive, send)
    errors += [
        await error_of(send({"type": "websocket.accept"})),
        await error_of(send({"type": "websocket.http.response.start", "status": 200, "headers": []})),
    ]
    note(scope, errors=errors)
    await send({"type": "websocket.send", "text": "still open"})
    await receive()


async def send_bad_data(scope, receive, send):
    await accept(receive, send)
    note(
        scope,
        errors=[
            await error_of(send({"type": "websocket.send"})),
            await error_of(send({"type": "websocket.send", "text": "\ud800"})),
        ],
    )
    # Both keys, and None for the one that does not count.
    await send({"type": "websocket.send", "bytes": None, "text": "one"})
    await send({"type": "websocket.send", "bytes": bytearray(b"two"), "text": None})
    await receive()


async def wait_then_accept(scope, receive, send):
    note(scope, started=True)
    await gates[id_of(scope)].wait()
    await echo(scope, receive, send)


async def wait_before_accept(scope, receive, send):
    assert await receive() == {"type": "websocket.connect"}
    note(scope, started=True)
    end = await receive()
    note(scope, end=end, error=await error_of(send({"type": "websocket.accept"})))


async def flood(scope, receive, send):
    await accept(receive, send)
    for _ in range(300):
        await send({"type": "websocket.send", "bytes": PIECE})
        counts[id_of(scope)] += 1


async def flood_until_lost(scope, receive, send):
    await accept(receive, send)
    while True:
        error = await error_of(send({"type": "websocket.send", "bytes": PIECE}))
        counts[id_of(scope)] += 1
        if error:
            note(scope, error=error)
            break


async def listen_late(scope, receive, send):
    await accept(receive, send)
    await gates[id_of(scope)].wait()
    size = 0
    while (event := await receive())["type"] == "websocket.receive" and event.get("text") != "end":
        size += len(event["bytes"])
    await send({"type": "websocket.send", "text": str(size)})


async def cancel_receive(scope, receive, send):
    await accept(receive, send)
    task = asyncio.create_task(receive())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.create_task(send({"type": "websocket.send", "text": str(task.cancelled())}))
    event = await asyncio.wait_for(asyncio.create_task(receive()), 5)
    await send({"type": "websocket.send", "text": event["text"]})


async def compressible(scope, receive, send):
    await accept(receive, send)
    event = await receive()
    await send({"type": "websocket.send", "text": event["text"]})
    await receive()


async def page(scope, receive, send):
    """Answer HTTP: open a gate, tell a count."""
    if scope["path"] == "/go":
        gates[id_of(scope)].set()
    body = str(counts[id_of(scope)]).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(scope, receive, send):
    await receive()
    scope["state"]["shared"] = "from lifespan"
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


BEHAVIOURS = {
    "/" + function.__name__: function
    for function in (
        accept_with_invalid,
        cancel_receive,
        choose,
        close,
        close_with_bad_code,
        compressible,
        dated,
        deny,
        deny_with_invalid,
        echo,
        flood,
        flood_until_lost,
        listen_late,
        raise_after,
        raise_before,
        receive_again,
        refuse,
        return_after,
        return_before,
        return_value,
        send_bad_data,
        send_late,
        send_wrong,
        wait_before_accept,
        wait_then_accept,
    )
}


async def bare(scope, receive, send):
    if scope["type"] == "websocket":
        return await BEHAVIOURS.get(scope["path"], tell_scope)(scope, receive, send)
    return await (lifespan if scope["type"] == "lifespan" else page)(scope, receive, send)
