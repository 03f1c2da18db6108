"""An echo server: python examples/echo.py, or python -m fastws serve examples.echo:Echo."""

import fastws


class Echo(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)


if __name__ == "__main__":
    fastws.run(Echo, "127.0.0.1", 8765)
