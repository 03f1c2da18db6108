"""The echo servers that the Autobahn testsuite is run against. Prints its port, then serves until SIGTERM."""

import asyncio
import sys

import fastws


class Echo(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main() -> None:
    # Both ways to compress; min_size 0: also what is not worth it.
    coroutines = "--coroutines" in sys.argv[1:]
    handler = echo if coroutines else Echo
    compression = fastws.Deflate(shared=not coroutines, min_size=0)
    # Section 9 sends messages of up to 16 MiB.
    async with fastws.serve(
        handler, "127.0.0.1", 0, max_size=32 * 1024 * 1024, compression=compression
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
