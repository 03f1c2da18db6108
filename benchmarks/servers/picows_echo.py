"""
An echo server on picows' core API, the fastest of its two, for bench.py.

    picows_echo.py PORT [--mode binary|str|bytes] [--broadcast] [--cert FILE --key FILE]

As in picows' README, a frame goes back as the memoryview it came as; with `--mode str` it is decoded to str
first. With `--mode bytes` nothing has checked that text is UTF-8: that is left to the user of this API. With
--broadcast each message goes to every connection, one after another; nothing limits what waits for one that
does not read. It has no compression.
"""

from __future__ import annotations

import argparse

import uvloop
from options import context, parser
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

transports: set[WSTransport] = set()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class EchoText(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_utf8_text())


class Broadcast(Echo):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transports.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        transports.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            super().on_ws_frame(transport, frame)
        else:
            message = frame.get_payload_as_bytes()
            for each in transports:
                each.send(frame.msg_type, message)


async def main(options: argparse.Namespace) -> None:
    listener = Broadcast if options.broadcast else EchoText if options.mode == "str" else Echo
    server = await ws_create_server(
        lambda request: listener(),
        "127.0.0.1",
        options.port,
        max_frame_size=32 * 1024 * 1024,
        backlog=4096,
        ssl=context(options),
    )
    host, port = server.sockets[0].getsockname()
    print(f"listening {host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(parser().parse_args()))
