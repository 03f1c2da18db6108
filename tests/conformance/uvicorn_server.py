"""The echo server that the Autobahn testsuite is run against, as an ASGI application on uvicorn."""

import uvicorn


async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


if __name__ == "__main__":
    # uvicorn knows only whether to compress: how is `fastws.Deflate()`, which leaves small messages alone.
    Server(
        uvicorn.Config(
            app,
            port=0,
            ws="fastws.uvicorn:WebSocketProtocol",
            lifespan="off",
            log_level="warning",
            ws_max_size=32 * 1024 * 1024,
        )
    ).run()
