"""What the kernels must compute, written slowly and obviously: masking (RFC 6455 5.3), UTF-8 (RFC 3629 4)."""

CONTINUATION = range(0x80, 0xC0)

# RFC 3629 4, the ABNF of UTF8-octets: which first byte demands which bytes behind it.
SEQUENCES = [
    (range(0x80), []),
    (range(0xC2, 0xE0), [CONTINUATION]),
    (range(0xE0, 0xE1), [range(0xA0, 0xC0), CONTINUATION]),
    (range(0xE1, 0xED), [CONTINUATION] * 2),
    (range(0xED, 0xEE), [range(0x80, 0xA0), CONTINUATION]),
    (range(0xEE, 0xF0), [CONTINUATION] * 2),
    (range(0xF0, 0xF1), [range(0x90, 0xC0), CONTINUATION, CONTINUATION]),
    (range(0xF1, 0xF4), [CONTINUATION] * 3),
    (range(0xF4, 0xF5), [range(0x80, 0x90), CONTINUATION, CONTINUATION]),
]


def unmask(data: bytes, key: bytes, phase: int = 0) -> bytes:
    """XOR `data`, which begins `phase` bytes into its payload, with the masking key."""
    return bytes(byte ^ key[(phase + i) % 4] for i, byte in enumerate(data))


class Utf8:
    """A text that arrives in pieces; the same face as fastws._kernels.Utf8."""

    def __init__(self) -> None:
        self.expected: list[range] = []
        self.ascii = True

    @property
    def complete(self) -> bool:
        return not self.expected

    def validate(self, piece: bytes) -> int:
        """Go on with `piece`; return its length, or the offset of the first byte that may not stand there."""
        for i, byte in enumerate(piece):
            if self.expected:
                if byte not in self.expected[0]:
                    return i
                self.expected = self.expected[1:]
                continue
            for first, behind in SEQUENCES:
                if byte in first:
                    self.expected = behind
                    break
            else:
                return i
            if byte >= 0x80:
                self.ascii = False
        return len(piece)


def outcome(text, pieces: list[bytes], validate=None) -> list[tuple]:
    """
    Feed `pieces` to a Utf8 up to the first error.

    Args:
        text: a Utf8, of this module or of fastws._kernels.
        pieces: the text, cut anywhere.
        validate: called as validate(text, piece, offset of the piece) in place of text.validate(piece).

    Returns: for each piece the bytes accepted, and unless it failed, whether the text so far is complete
        and whether it is ASCII.
    """
    seen: list[tuple] = []
    offset = 0
    for piece in pieces:
        valid = text.validate(piece) if validate is None else validate(text, piece, offset)
        if valid != len(piece):
            seen.append((valid,))
            break
        seen.append((valid, text.complete, text.ascii))
        offset += len(piece)
    return seen
