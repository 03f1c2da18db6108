"""The echo client that the Autobahn testsuite's server is given: `client.py PORT`."""

import asyncio
import sys

import fastws


def connect(port: int, path: str) -> fastws.connect:
    return fastws.connect(
        f"ws://127.0.0.1:{port}/{path}",
        compression=fastws.Deflate(shared=False, min_size=0),
        proxy=None,
        max_size=32 * 1024 * 1024,
        ping_interval=None,
    )


async def main(port: int) -> None:
    async with connect(port, "getCaseCount") as ws:
        count = int(await ws.recv())
    for case in range(1, count + 1):
        async with connect(port, f"runCase?case={case}&agent=fastws") as ws:
            try:
                async for message in ws:
                    await ws.send(message)
            except fastws.ConnectionClosed:
                pass  # most cases end with a fault
    async with connect(port, "updateReports?agent=fastws") as ws:
        await ws.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
