"""A server in a process of its own, with a backplane: `backplane_node.py URL TOPIC`.

It prints its epoch, then answers lines on standard input with what it has, as JSON; `publish N` publishes the
numbers up to N first.
"""

import asyncio
import json
import sys

import fastws


async def main(url, topic):
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    gaps = []
    async with fastws.serve(
        on_message=print,
        host="127.0.0.1",
        port=0,
        backplane=url,
        on_gap=lambda server, topics: gaps.append(topics),
    ) as server:
        server.topic(topic, history=100_000)
        await server.backplane.settle()
        print(server.epoch, flush=True)
        number = 0
        while line := await commands.readline():
            command, _, argument = line.decode().strip().partition(" ")
            if command == "publish":
                while number < int(argument):
                    number += 1
                    server.publish(topic, str(number))
                    if number % 50 == 0:
                        await asyncio.sleep(0)
            await asyncio.sleep(0)
            found = server._topics.find(topic)
            kept = [int(frame[2 if len(frame) < 128 else 4 :]) for *_, frame in found.kept.entries()[0]]
            print(
                json.dumps(
                    {
                        "published": number,
                        "kept": kept,
                        "stats": vars(server.backplane.stats),
                        "missing": found.missing,
                        "gaps": len(gaps),
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
