"""
An echo server on socketify, Python over uWebSockets, for bench.py.

    socketify_echo.py PORT [--mode binary|str] [--broadcast] [--deflate]

Text comes as str, which cannot be switched off. With --broadcast each message goes to every connection, by a
topic; one that does not read misses what comes while 64 KiB wait for it. With --deflate answers are
compressed.
"""

from __future__ import annotations

import argparse
import socket

from socketify import App, AppListenOptions, CompressOptions


def free_port() -> int:
    """Return a port that was free a moment ago: the server does not tell which one it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(options: argparse.Namespace) -> None:
    app = App()
    port = options.port or free_port()
    compress = options.deflate

    def subscribe(ws):
        ws.subscribe("all")

    def publish(ws, message, opcode):
        app.publish("all", message, opcode, compress)

    def echo(ws, message, opcode):
        ws.send(message, opcode, compress)

    settings = {
        "compression": CompressOptions.SHARED_COMPRESSOR if compress else CompressOptions.DISABLED,
        "max_payload_length": 32 * 1024 * 1024,
        "max_backpressure": 64 * 1024 if options.broadcast else 64 * 1024 * 1024,
        "close_on_backpressure_limit": False,
        "idle_timeout": 0,
        "send_pings_automatically": False,
        "message": publish if options.broadcast else echo,
    }
    if options.broadcast:
        settings["open"] = subscribe
    app.ws("/*", settings)
    app.listen(
        AppListenOptions(port=port, host="127.0.0.1"),
        lambda config: print(f"listening 127.0.0.1:{port}", flush=True),
    )
    app.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--mode", choices=("binary", "str"), default="binary")
    parser.add_argument("--broadcast", action="store_true")
    parser.add_argument("--deflate", action="store_true")
    main(parser.parse_args())
