"""Frames for many: one message, encoded once, and compressed once for each window in use.

In: a message, or its plain frame from another process. Out: its frames, unmasked. RFC 6455 5.2 and RFC 7692 7.2.1.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t

from fastws._deflate cimport Deflating, forget_output, is_worth, shared_frame
from fastws._frames cimport (
    WS_BINARY, WS_FIN, WS_HEADER_MAX, WS_TEXT, ws_header, ws_header_decode, ws_header_encode,
)
from fastws._messages cimport Payload


cdef class Frames:
    def __cinit__(self, compress=None):
        self.compress = compress
        self.frames = [None] * VARIANTS

    cdef int encode(self, const Payload *payload) except -1:
        cdef uint8_t[WS_HEADER_MAX] header
        self.opcode = payload.opcode
        self.header_size = <uint8_t>ws_header_encode(header, WS_FIN | payload.opcode, payload.size)
        self.frames[0] = header[:self.header_size] + payload.data[:payload.size]
        return 0

    cdef int adopt(self, bytes frame) except -1:
        cdef ws_header header
        cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
        cdef int used = ws_header_decode(<const uint8_t *>PyBytes_AS_STRING(frame), <size_t>size, 0, 0, &header)
        if (used <= 0 or not header.fin or (header.opcode != WS_TEXT and header.opcode != WS_BINARY)
                or header.length != <uint64_t>(size - used)):
            raise ValueError(f"frame of {size} bytes begins with {frame[:4].hex()}, expected one whole data message")
        self.opcode = header.opcode
        self.header_size = <uint8_t>used
        self.frames[0] = frame
        return 0

    cdef int variant(self, Deflating *deflating) except -1:
        cdef Payload payload
        cdef bytes plain, packed
        cdef int number
        if deflating == NULL:
            return 0
        plain = self.frames[0]
        payload.data = <const uint8_t *>PyBytes_AS_STRING(plain) + self.header_size
        payload.size = <size_t>PyBytes_GET_SIZE(plain) - self.header_size
        payload.opcode = self.opcode
        if not is_worth(deflating, payload.size, self.compress):
            return 0
        number = deflating.out_bits - 8
        packed = self.frames[number]
        if packed is None:
            packed = shared_frame(deflating, &payload)
            # Where that is not smaller the plain one goes out, to all.
            self.frames[number] = packed = plain if packed is None else packed
        if packed is plain:
            return 0
        forget_output(deflating)
        return number
