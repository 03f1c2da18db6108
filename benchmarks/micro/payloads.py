"""What the micro-benchmarks feed: the payloads of `make bench`, and frames around them."""

import functools
import json
import random

import frames

KEY = bytes([0x37, 0xFA, 0x00, 0x91])


def ascii_text(size):
    """Return `size` bytes of ASCII."""
    unit = b"The quick brown fox jumps over the lazy dog, 0123456789 times. "
    return (unit * (size // len(unit) + 1))[:size]


def mixed_text(size):
    """Return `size` bytes of UTF-8: half ASCII, the rest code points of 2, 3 and 4 bytes."""
    unit = "plain ASCII text, é à ñ, € ‰ 語 界, 😀 🦊 ".encode()
    whole = (unit * (size // len(unit) + 1))[:size].decode(errors="ignore").encode()
    return whole + b"." * (size - len(whole))


@functools.cache
def random_bytes(size):
    return random.Random(size).randbytes(size)


def masked_frames(opcode, payload, count):
    """Return `count` frames in one piece, as they lie in one read; no two have the same masking key."""
    rng = random.Random(count)
    return b"".join(frames.frame(opcode, payload, mask=rng.randbytes(4)) for _ in range(count))


MESSAGES = {
    "binary-64": random_bytes(64),
    "text-128": ascii_text(128).decode(),
    "text-16k": mixed_text(16 * 1024).decode(),
}


def server_frame(message):
    """Return a message's frame as a server sends it."""
    if isinstance(message, str):
        return frames.answer(frames.TEXT, message.encode())
    return frames.answer(frames.BINARY, message)


def ticker(size):
    """Return `size` bytes of a market's news as JSON, cut where they end."""
    rng = random.Random(size)
    rows = [
        {
            "symbol": rng.choice(["BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "ADA-USD", "EUR-USD"]),
            "price": f"{rng.uniform(1, 99999):.2f}",
            "size": f"{rng.expovariate(1):.4f}",
            "side": rng.choice(["buy", "sell"]),
            "time": 1732190400000 + i,
            "id": 9000000 + i,
        }
        for i in range(size // 80 + 1)
    ]
    return json.dumps({"type": "trades", "data": rows}, separators=(",", ":")).encode()[:size]
