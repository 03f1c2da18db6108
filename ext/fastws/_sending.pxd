from libc.stdint cimport uint8_t

from fastws._messages cimport Payload
from fastws._opening cimport Opening


cdef class Stream:
    # started: a fragment has been sent; opcode: the message's.
    cdef bint started
    cdef uint8_t opcode
    # What the user said of compression, and what came of it.
    cdef object compress
    cdef bint packed
    # What was sent meanwhile and goes out afterwards, (opcode, owner, compress) each, or
    # (None, frame, None); futures for the end.
    cdef list messages
    cdef list waiters

    cdef object ended(self, Sending connection)
    cdef object queue(self, Sending connection, uint8_t opcode, owner, compress)
    cdef int end(self, Sending connection) except -1


cdef class Sending(Opening):
    cdef int fail_internally(self) except -1
    cdef object after_send(self)
    cdef object closed_awaitable(self)
    cdef object send_iterable(self, message, text, compress)
    cdef object send_fragment(self, Stream stream, fragment, text)
    cdef int end_fragments(self, Stream stream) except -1
    cdef object encode_fragment(self, Stream stream, fragment, text, Payload *payload)
