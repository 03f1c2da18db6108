"""Frames as bytes: headers and Close payloads, RFC 6455 5.2, 5.5.1 and 7.4.

In: bytes of a header, or a close code and reason. Out: their fields, or the bytes to send.
The work is done by ws_header.h; what is Python here serves tools and tests.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t


cdef dict HEADER_ERRORS = {
    -1: "reserved bits are set, and no extension that uses them was negotiated",
    -2: "the opcode is not defined",
    -3: "a control frame is fragmented",
    -4: "a frame from a client is not masked",
    -5: "a frame from a server is masked",
    -6: "a control frame's payload is longer than 125 bytes",
    -7: "the payload length is not in its shortest form",
    -8: "the payload length has its most significant bit set",
}


cdef str header_error(int verdict):
    return HEADER_ERRORS[verdict]


cdef bytes encode_close(object code, str reason):
    """
    Encode the payload of a Close frame.

    Raises: ValueError when `code` may not be sent or `reason` exceeds 123 bytes of UTF-8.
    """
    cdef bytes text
    if not isinstance(code, int) or not 1000 <= code <= 4999 or not ws_close_code_valid(code):
        raise ValueError(f"close code is {code!r}, allowed are 1000-1003, 1007-1014 and 3000-4999")
    text = reason.encode()
    if len(text) > 123:
        raise ValueError(f"close reason is {len(text)} bytes, limit is 123")
    return int(code).to_bytes(2, "big") + text


def parse_header(data, *, masked=True, int rsv_allowed=0):
    """
    Parse the frame header at the start of `data`, RFC 6455 5.2.

    Args:
        data: bytes, at least as many as the header has.
        masked: whether the peer must mask its frames, as a client must.
        rsv_allowed: the RSV bits that data frames may set, RSV1 to RSV3 as 4, 2, 1.

    Returns: (size of the header, fin, rsv, opcode, payload length, masking key or None);
        None when the header does not end within `data`.

    Raises: ValueError for a header that the RFC forbids.
    """
    cdef const uint8_t[::1] view = data
    cdef ws_header header
    cdef int size
    if view.shape[0] == 0:
        return None
    size = ws_header_decode(&view[0], <size_t>view.shape[0], <unsigned>rsv_allowed, 1 if masked else 0, &header)
    if size == 0:
        return None
    if size < 0:
        raise ValueError(header_error(size))
    key = PyBytes_FromStringAndSize(<char *>header.key, 4) if masked else None
    return size, bool(header.fin), header.rsv, header.opcode, header.length, key


def encode_header(int opcode, length, *, fin=True, int rsv=0):
    """
    Encode the header of an unmasked frame, RFC 6455 5.2.

    Args:
        opcode: 0 to 15.
        length: of the payload, in bytes, below 2**63.
        fin: whether this is the message's last fragment.
        rsv: RSV1 to RSV3 as 4, 2, 1.

    Raises: ValueError for a value out of range.
    """
    cdef uint8_t[WS_HEADER_MAX] header
    cdef unsigned size
    if not 0 <= opcode <= 15 or not 0 <= rsv <= 7 or not 0 <= length < 2**63:
        raise ValueError(f"opcode {opcode}, rsv {rsv}, length {length}: allowed are 0-15, 0-7, below 2**63")
    size = ws_header_encode(header, (0x80 if fin else 0) | <unsigned>rsv << 4 | <unsigned>opcode, <uint64_t>length)
    return PyBytes_FromStringAndSize(<char *>header, <Py_ssize_t>size)


def is_close_code(code):
    """Tell whether a Close frame may carry `code`, RFC 6455 7.4."""
    return isinstance(code, int) and 1000 <= code <= 4999 and ws_close_code_valid(code)
