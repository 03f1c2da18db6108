from libc.stdint cimport uint8_t

from fastws._handling cimport Handling


cdef class Connection(Handling):
    cdef uint8_t taking_stream    # a coroutine is in recv_streaming

    cdef int discard_fragments(self) except -1
    cdef int check_receives(self) except -1
