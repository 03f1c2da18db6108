"""Frames as a client sends them, good and bad, RFC 6455 5.2; and as a server answers.

Written from the RFC alone: nothing here knows fastws, so that it cannot share its mistakes.
"""

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
RSV1, RSV2, RSV3 = 4, 2, 1
KEY = b"\x37\xfa\x21\x3d"  # that of the examples in RFC 6455 5.7


def xor(payload, key):
    """Mask or unmask, RFC 6455 5.3."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def header(opcode, length, *, fin=True, rsv=0, mask=KEY, form=None):
    """
    Encode a frame header.

    Args:
        length: as announced; the payload may differ.
        rsv: RSV1 to RSV3 as 4, 2, 1.
        mask: the masking key; None sends none and leaves the bit clear.
        form: bytes that hold the length: 1, 2 or 8. None is the shortest that fits.
    """
    if form is None:
        form = 1 if length < 126 else 2 if length < 2**16 else 8
    first = (FIN if fin else 0) | rsv << 4 | opcode
    second = {1: length, 2: 126, 8: 127}[form] | (0 if mask is None else 0x80)
    extended = b"" if form == 1 else length.to_bytes(form, "big")
    return bytes([first, second]) + extended + (mask or b"")


def frame(opcode, payload=b"", *, length=None, mask=KEY, **options):
    """Encode a client's frame; `length` announces another than the payload's, the rest goes to `header`."""
    announced = len(payload) if length is None else length
    return header(opcode, announced, mask=mask, **options) + (payload if mask is None else xor(payload, mask))


def text(payload, **options):
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload, **options)


def binary(payload, **options):
    return frame(BINARY, payload, **options)


def cont(payload=b"", **options):
    return frame(CONT, payload.encode() if isinstance(payload, str) else payload, **options)


def ping(payload=b"", **options):
    return frame(PING, payload, **options)


def pong(payload=b"", **options):
    return frame(PONG, payload, **options)


def close_payload(code=None, reason=b""):
    return b"" if code is None else code.to_bytes(2, "big") + reason


def close(code=None, reason=b"", **options):
    return frame(CLOSE, close_payload(code, reason), **options)


def fragmented(opcode, pieces, **options):
    """Encode one message in a frame for each of `pieces`."""
    last = len(pieces) - 1
    return b"".join(
        frame(opcode if i == 0 else CONT, piece, fin=i == last, **options) for i, piece in enumerate(pieces)
    )


def answer(opcode, payload=b""):
    """Encode a frame as a server sends it: unmasked."""
    return frame(opcode, payload, mask=None)


def answer_close(code=None, reason=b""):
    return answer(CLOSE, close_payload(code, reason))
