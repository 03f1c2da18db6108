from libc.stdint cimport uint32_t

from fastws._encrypting cimport Encrypting
from fastws._endpoint cimport Endpoint
from fastws._tls cimport Tls


cdef class Writing(Encrypting):
    cdef int epoll

    # --- what is left for the turn's end, or the loop's next pass
    # Slots of connections with output, a queue: dirty[dirty_start .. dirty_end).
    cdef uint32_t *dirty
    cdef size_t dirty_start, dirty_end, dirty_room
    cdef list lost                # connections that were dropped and have not been told

    cdef int need_pass(self) except -1
    cdef int flush_dirty(self) except -1
    # False: the connection was dropped.
    cdef bint send_encrypted(self, Endpoint connection, Tls tls) except -1
    cdef int set_interest(self, Endpoint connection, uint32_t interest) except -1
    cdef int close_descriptor(self, Endpoint connection) except -1
