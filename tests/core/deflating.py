"""permessage-deflate as a peer does it, RFC 7692 7.2, by Python's zlib; and frames as they are sent.

Written from the RFC and zlib's manual: nothing here knows how fastws does it but `agreed`.
"""

import itertools
import random
import zlib

import frames
import pytest
from feeding import feed, outcome

from fastws._recorder import Recorder
from fastws.extensions import Agreed

TAIL = b"\x00\x00\xff\xff"
HELLO = b"\xf2\x48\xcd\xc9\xc9\x07\x00"  # RFC 7692 7.2.3.1
WORDS = [b"price ", b"volume ", b"bid=", b"ask=", "é€😀 ".encode(), b'{"symbol":"', b'"},']


def agreed(**changed):
    """What a connection does; everything may be compressed, nothing is remembered, unless `changed`."""
    values = {
        "header": "permessage-deflate",
        "out_bits": 15,
        "in_bits": 15,
        "out_takeover": False,
        "in_takeover": False,
        "level": 1,
        "memory_level": 5,
        "min_size": 0,
    }
    return Agreed(**{**values, **changed})


# For messages that are received: with nothing remembered from one to the next, and with the window.
FRESH = agreed()
KEPT = agreed(in_takeover=True)
BOTH = pytest.mark.parametrize("deflate", [FRESH, KEPT], ids=["fresh", "kept"])


def words(rng, count):
    """Text that compresses, as bytes."""
    return b"".join(rng.choices(WORDS, k=count))


def raw_deflate(data, *, bits=15, before=b"", flush=zlib.Z_SYNC_FLUSH, level=6):
    """Compress `data` by itself, or with `before` as the window; Z_FINISH sets BFINAL."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -bits, *([8, 0, before] if before else []))
    return deflater.compress(data) + deflater.flush(flush)


def packed(data, **options):
    """Return the payload of a compressed message, RFC 7692 7.2.1."""
    return raw_deflate(data, **options).removesuffix(TAIL)


def received(stream, **options):
    """Return the messages in `stream`, which is fine and comes in one piece."""
    result = outcome(feed(Recorder(**options), [stream]))
    assert not result.failed, result.close_sent
    return result.messages


def verdict(stream, **options):
    return outcome(feed(Recorder(**options), [stream])).verdict


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def story(size, seed=1):
    """Bytes that compress well, though not as zeros do."""
    return words(random.Random(seed), size // 4 + 1)[:size]


class Peer:
    """
    The two halves of a peer.

    Args:
        bits: of the window it compresses with; `their_bits` those of what it decompresses.
        takeover, their_takeover: whether a message may refer to those before.
        client: the role, which says who masks.
    """

    def __init__(self, *, bits=15, takeover=False, their_bits=15, their_takeover=False, client=True, level=6):
        self.bits, self.takeover, self.level = bits, takeover, level
        self.their_bits, self.their_takeover = their_bits, their_takeover
        self.mask = frames.KEY if client else None
        self.deflater = self.inflater = None

    def pack(self, piece, *, last=True):
        """Compress a message, or a piece of one with `last` False."""
        if self.deflater is None:
            self.deflater = zlib.compressobj(self.level, zlib.DEFLATED, -self.bits)
        data = self.deflater.compress(piece) + self.deflater.flush(zlib.Z_SYNC_FLUSH)
        if not last:
            return data
        if not self.takeover:
            self.deflater = None
        # A flush with nothing new adds nothing: RFC 7692 7.2.3.6.
        return data.removesuffix(TAIL) or b"\x00"

    def unpack(self, payload):
        if self.inflater is None or not self.their_takeover:
            self.inflater = zlib.decompressobj(-self.their_bits)
        content = self.inflater.decompress(payload + TAIL)
        assert not self.inflater.unconsumed_tail
        assert not self.inflater.unused_data
        return content

    def message(self, opcode, data, cuts=(), between=b""):
        """Return the frames of a compressed message, cut at `cuts`, with `between` between them."""
        payload = self.pack(data)
        edges = [0, *sorted(c % (len(payload) + 1) for c in cuts), len(payload)]
        pieces = [payload[a:b] for a, b in itertools.pairwise(edges)]
        return between.join(
            frames.frame(
                frames.CONT if i else opcode,
                piece,
                rsv=0 if i else frames.RSV1,
                fin=i == len(pieces) - 1,
                mask=self.mask,
            )
            for i, piece in enumerate(pieces)
        )

    def binary(self, data, cuts=(), between=b""):
        return self.message(frames.BINARY, data, cuts, between)

    def text(self, data, cuts=(), between=b""):
        return self.message(frames.TEXT, data.encode() if isinstance(data, str) else data, cuts, between)

    def read(self, output):
        """Return (opcode, compressed, content) of each message in `output`; control frames as they are."""
        found, pieces = [], []
        opcode = compressed = None
        for fin, rsv, kind, payload in sent(output):
            if kind & 8:
                found.append((kind, False, payload))
                continue
            assert rsv in ((0, frames.RSV1) if kind else (0,))
            if kind:
                assert not pieces, "a message inside a message"
                opcode, compressed = kind, rsv == frames.RSV1
            pieces.append(payload)
            if fin:
                content = b"".join(pieces)
                found.append((opcode, compressed, self.unpack(content) if compressed else content))
                pieces = []
        return found

    def contents(self, output):
        return [content for _, _, content in self.read(output)]


def sent(output):
    """Return (fin, rsv, opcode, payload) of each frame in `output`, masked or not."""
    found = []
    while output:
        size, start = output[1] & 127, 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(output[2:start], "big")
        key = bytes(4)
        if output[1] & 128:
            key = output[start : start + 4]
            start += 4
        assert len(output) >= start + size, "half a frame"
        payload = frames.xor(output[start : start + size], key)
        found.append((output[0] >> 7, output[0] >> 4 & 7, output[0] & 15, payload))
        output = output[start + size :]
    return found


def compressed_frame(payload, opcode=frames.BINARY, **options):
    """Encode a client's frame with RSV1 set."""
    return frames.frame(opcode, payload, rsv=frames.RSV1, **options)
