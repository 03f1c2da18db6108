"""
An echo server on socketify, Python over uWebSockets, for bench.py.

    socketify_echo.py PORT [--mode binary|str] [--broadcast] [--deflate] [--cert FILE --key FILE]

Text comes as str, which cannot be switched off. With --broadcast each message goes to every connection, by a
topic; one that does not read misses what comes while 64 KiB wait for it. With --deflate answers are
compressed.
"""

from __future__ import annotations

import argparse

from options import free_port, parser
from socketify import App, AppListenOptions, AppOptions, CompressOptions


def main(options: argparse.Namespace) -> None:
    files = {"cert_file_name": options.cert, "key_file_name": options.key}
    app = App(AppOptions(**files) if options.cert else None)
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
    main(parser(deflate=True).parse_args())
