"""What the command lines of the servers in Python have in common."""

from __future__ import annotations

import argparse
import socket
import ssl


def parser(*, deflate: bool = False) -> argparse.ArgumentParser:
    """Return a parser for PORT [--mode MODE] [--broadcast] [--deflate] [--cert FILE --key FILE]."""
    result = argparse.ArgumentParser()
    result.add_argument("port", type=int, help="0: any free port")
    result.add_argument("--broadcast", action="store_true", help="each message goes to every connection")
    result.add_argument(
        "--mode", choices=("binary", "str", "bytes"), default="binary", help="what text comes as"
    )
    if deflate:
        result.add_argument("--deflate", action="store_true", help="compress the answers")
    result.add_argument("--cert", metavar="FILE", help="serve over TLS")
    result.add_argument("--key", metavar="FILE")
    return result


def context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context that --cert and --key ask for, with Python's defaults."""
    if not options.cert:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(options.cert, options.key)
    return made


def free_port() -> int:
    """Return a port that was free a moment ago, for servers that do not tell which one they got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
