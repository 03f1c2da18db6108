"""
What the kernels must compute, written slowly and obviously: masking (RFC 6455 5.3), UTF-8 (RFC 3629 4);
and how what they compress is read (RFC 1951).
"""

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


class Inflated:
    """
    What raw DEFLATE without the last four bytes of its sync flush, RFC 7692 7.2.1, says.

    Attributes:
        data: the message.
        blocks: the kinds of its blocks, "stored", "fixed" or "dynamic", without the empty one at the end.
        distances: of its matches.
        lengths: of the same.

    Raises: ValueError for what RFC 1951 does not allow, for BFINAL, for codes that are not complete,
        and for anything behind the end.
    """

    def __init__(self, compressed: bytes) -> None:
        self._src = compressed
        self._bit = 0
        self._out = bytearray()
        self.blocks: list[str] = []
        self.distances: list[int] = []
        self.lengths: list[int] = []
        while self._block():
            pass
        self.data = bytes(self._out)

    def _bits(self, count: int) -> int:
        value = 0
        for i in range(count):
            if self._bit >= 8 * len(self._src):
                raise ValueError("ends within a block")
            value |= (self._src[self._bit // 8] >> self._bit % 8 & 1) << i
            self._bit += 1
        return value

    def _block(self) -> bool:
        if self._bits(1):
            raise ValueError("BFINAL")
        kind = self._bits(2)
        if kind == 0:
            self._bit = (self._bit + 7) // 8 * 8
            if self._bit == 8 * len(self._src):
                return False
            length = self._bits(16)
            if self._bits(16) ^ length != 0xFFFF:
                raise ValueError("LEN and NLEN differ")
            self._out += bytes(self._bits(8) for _ in range(length))
        elif kind == 1:
            self._symbols(code_of([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), code_of([5] * 32))
        elif kind == 2:
            self._symbols(*self._codes())
        else:
            raise ValueError("reserved kind of block")
        self.blocks.append(("stored", "fixed", "dynamic")[kind])
        return True

    def _codes(self) -> tuple[dict[str, int], dict[str, int]]:
        literals, distances, count = self._bits(5) + 257, self._bits(5) + 1, self._bits(4) + 4
        if literals > 286 or distances > 30:
            raise ValueError("too many codes")
        of_lengths = [0] * 19
        for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)[:count]:
            of_lengths[symbol] = self._bits(3)
        code = code_of(of_lengths)
        lengths: list[int] = []
        while len(lengths) < literals + distances:
            symbol = self._symbol(code)
            if symbol < 16:
                lengths.append(symbol)
            elif symbol == 16:
                lengths += [lengths[-1]] * (3 + self._bits(2))
            else:
                lengths += [0] * (3 + self._bits(3) if symbol == 17 else 11 + self._bits(7))
        if len(lengths) > literals + distances:
            raise ValueError("too many lengths")
        return code_of(lengths[:literals]), code_of(lengths[literals:])

    def _symbol(self, code: dict[str, int]) -> int:
        bits = ""
        while bits not in code:
            bits += str(self._bits(1))
            if len(bits) > 15:
                raise ValueError("bits that are no code")
        return code[bits]

    def _symbols(self, literals: dict[str, int], distances: dict[str, int]) -> None:
        while (symbol := self._symbol(literals)) != 256:
            if symbol < 256:
                self._out.append(symbol)
                continue
            s = symbol - 257
            extra = 0 if s < 8 or s == 28 else s // 4 - 1
            length = (s + 3 if s < 8 else 258 if s == 28 else 3 + ((4 + s % 4) << extra)) + self._bits(extra)
            d = self._symbol(distances)
            extra = 0 if d < 4 else d // 2 - 1
            distance = (d + 1 if d < 4 else 1 + ((2 + d % 2) << extra)) + self._bits(extra)
            if s > 28 or d > 29 or distance > len(self._out):
                raise ValueError("match out of bounds")
            self.lengths.append(length)
            self.distances.append(distance)
            for _ in range(length):
                self._out.append(self._out[-distance])


def code_of(lengths: list[int]) -> dict[str, int]:
    """Return the symbol of each string of bits, RFC 1951 3.2.2, given the lengths of all symbols."""
    code: dict[str, int] = {}
    value = 0
    for length in range(1, 16):
        value *= 2
        for symbol, own in enumerate(lengths):
            if own == length:
                code[f"{value:0{length}b}"] = symbol
                value += 1
    if value != 2**15:
        raise ValueError("code is not complete")
    return code
