"""The echo servers that the Autobahn testsuite is run against. Prints its port, then serves until SIGTERM."""

import argparse
import asyncio
import ssl

import fastws


class Echo(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)


async def echo(ws):
    async for message in ws:
        await ws.send(message)


def certificate() -> ssl.SSLContext:
    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coroutines", action="store_true")
    parser.add_argument("--transport", choices=("reactor", "streams"))
    parser.add_argument("--tls", action="store_true")
    args = parser.parse_args()
    async with fastws.serve(
        echo if args.coroutines else Echo,
        "127.0.0.1",
        0,
        # Section 9 sends messages of up to 16 MiB.
        max_size=32 * 1024 * 1024,
        # Both ways to compress; min_size 0: also what is not worth it.
        compression=fastws.Deflate(shared=not args.coroutines, min_size=0),
        transport=args.transport,
        ssl=certificate() if args.tls else None,
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
