"""Numbers that are published, and numbers that come."""

import asyncio


async def publishing(server, topic, first, last):
    """Publish the numbers from `first` to `last` over some time."""
    for number in range(first, last + 1):
        server.publish(topic, str(number))
        if number % 20 == 0:
            await asyncio.sleep(0.001)


async def numbers_until(websocket, last):
    """Return the numbers that come until `last` has come: they rise, each comes once."""
    got = []
    while not got or got[-1] != last:
        got.append(int(await websocket.recv()))
        assert len(got) == 1 or got[-1] > got[-2]
    return got
