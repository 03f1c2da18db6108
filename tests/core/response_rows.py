"""
Responses to the opening handshake of a client, good ones and wrong ones, and what the client says of them.

`ACCEPTED` and `WRONG` have a row for each way in which a response can be unusual and right, or break a
rule of RFC 6455; `receive` and `outcome` feed a response to a `ClientHandshake` in pieces.
"""

import base64
import itertools

from fastws.client_handshake import ClientHandshake
from fastws.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidUpgrade,
    NegotiationError,
)
from fastws.headers import accept_key
from fastws.uri import parse_uri

NONCE = bytes(range(16))
KEY = base64.b64encode(NONCE)
ACCEPT = accept_key(KEY).decode()
URI = parse_uri("ws://localhost:8765/path?query")
GOOD = (
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
).encode()


def response(*fields, status="101 Switching Protocols", body=b""):
    """Return a response that accepts, but for the given fields: (name, value), None leaves it out."""
    merged = {"Upgrade": ["websocket"], "Connection": ["Upgrade"], "Sec-WebSocket-Accept": [ACCEPT]}
    for name, group in itertools.groupby(fields, lambda field: field[0]):
        merged[name] = [value for _, value in group if value is not None]
    lines = [f"{name}: {value}\r\n" for name, values in merged.items() for value in values]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode("latin-1") + body


def receive(pieces, *, eof=False, **options):
    """Return the handshake, and what it said: True, False, or (kind and text of) an exception."""
    handshake = ClientHandshake(URI, **options)
    try:
        done = False
        rest = b""
        for piece in pieces:
            if done:
                rest += piece
            else:
                done = handshake.receive_data(piece)
        if eof and not done:
            done = handshake.receive_eof()
        if done:
            handshake.check()
    except InvalidHandshake as error:
        return handshake, (type(error), str(error), type(error.__cause__))
    return handshake, (done, handshake.rest + rest if handshake.subprotocol is None else None)


def outcome(pieces, **options):
    handshake, said = receive(pieces, **options)
    return said, handshake.response


def cut(stream, at):
    edges = [0, *sorted({min(one, len(stream)) for one in at}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


ACCEPTED = {
    "plain": GOOD,
    "any-case": response(("Upgrade", "WebSocket"), ("Connection", "keep-alive, UPGRADE")),
    "split-connection": response(("Connection", "keep-alive"), ("Connection", "upgrade")),
    "empty-elements": response(("Upgrade", ", websocket,"), ("Connection", ",Upgrade,")),
    "space": response(("Sec-WebSocket-Accept", f"\t {ACCEPT} \t")),
    "no-reason": response(status="101 "),
    "obs-text": response(("X", "é"), status="101 é"),
    "tab-in-reason": response(status="101 a\tb"),
    "other-fields": response(("Server", "x"), ("Date", "y"), ("X", "")),
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + GOOD,
    "interim-8": b"HTTP/1.1 100 \r\n\r\n" * 8 + GOOD,
    "fields-128": response(*[(f"X-{i}", "a") for i in range(125)]),
    "line-8k": response(("X", "a" * (8192 - 5))),
    "length-told": response(("Content-Length", "0")),
}

WRONG = {
    "no-connection": (response(("Connection", None)), InvalidUpgrade, "field Connection is missing"),
    "connection": (response(("Connection", "close")), InvalidUpgrade, "Connection is not valid: close"),
    "no-upgrade": (response(("Upgrade", None)), InvalidUpgrade, "field Upgrade is missing"),
    "upgrade": (response(("Upgrade", "h2c")), InvalidUpgrade, "Upgrade is not valid: h2c"),
    "upgrade-empty": (response(("Upgrade", "")), InvalidUpgrade, "field Upgrade is empty"),
    "upgrades": (response(("Upgrade", "websocket, h2c")), InvalidUpgrade, "websocket, h2c"),
    "upgrade-twice": (
        response(("Upgrade", "websocket"), ("Upgrade", "websocket")),
        InvalidUpgrade,
        "websocket, websocket",
    ),
    "no-accept": (response(("Sec-WebSocket-Accept", None)), InvalidHeader, "Accept is missing"),
    "accept-empty": (response(("Sec-WebSocket-Accept", "")), InvalidHeaderValue, "Accept is empty"),
    "accept": (response(("Sec-WebSocket-Accept", "x")), InvalidHeaderValue, "Accept is not valid: x"),
    "accept-case": (
        response(("Sec-WebSocket-Accept", ACCEPT.swapcase())),
        InvalidHeaderValue,
        "Accept is not valid",
    ),
    "accept-key": (
        response(("Sec-WebSocket-Accept", KEY.decode())),
        InvalidHeaderValue,
        "Accept is not valid",
    ),
    "accept-twice": (
        response(("Sec-WebSocket-Accept", ACCEPT), ("Sec-WebSocket-Accept", ACCEPT)),
        InvalidHeaderValue,
        f"{ACCEPT}, {ACCEPT}",
    ),
    "extension": (
        response(("Sec-WebSocket-Extensions", "permessage-deflate")),
        NegotiationError,
        "'permessage-deflate', none is offered",
    ),
    "extension-empty": (response(("Sec-WebSocket-Extensions", "")), NegotiationError, "''"),
    "subprotocol": (response(("Sec-WebSocket-Protocol", "x")), NegotiationError, "'x', offered is chat"),
    "subprotocol-case": (response(("Sec-WebSocket-Protocol", "Chat")), NegotiationError, "'Chat'"),
    "subprotocol-empty": (response(("Sec-WebSocket-Protocol", "")), NegotiationError, "allowed is one"),
    "subprotocols": (
        response(("Sec-WebSocket-Protocol", "chat, superchat")),
        NegotiationError,
        "'chat, superchat', allowed is one",
    ),
    "subprotocol-twice": (
        response(("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Protocol", "chat")),
        NegotiationError,
        "allowed is one",
    ),
}
