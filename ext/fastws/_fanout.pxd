from libc.stdint cimport uint8_t

from fastws._deflate cimport Deflating
from fastws._messages cimport Payload


cdef enum:
    # The ways to send a message: as it is, and compressed with windows of 9 to 15 bits.
    VARIANTS = 8


cdef class Frames:
    # Of one message, each made when it is first needed.
    cdef list frames            # by variant; None: not made yet
    cdef object compress        # what the user said: True, False, or None
    cdef uint8_t opcode
    cdef uint8_t header_size    # of the plain frame

    cdef int encode(self, const Payload *payload) except -1
    # Take over a plain frame that another process encoded. Raises ValueError for what is no whole data message.
    cdef int adopt(self, bytes frame) except -1
    # Which one is for a connection: 0, the plain one, or another. It is made, and the connection's
    # compressor starts anew behind it, so that it has to be sent.
    cdef int variant(self, Deflating *deflating) except -1
