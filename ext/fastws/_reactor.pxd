from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastws._connection cimport Connection
from fastws._endpoint cimport Endpoint
from fastws._settings cimport Settings
from fastws._slots cimport Slots


cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data

cdef enum:
    MAX_EVENTS = 256
    # One read takes at most this much, so that a fast peer does not hold up the others.
    SCRATCH_SIZE = 128 * 1024
    MAX_VECTORS = 64


cdef class Listener:
    cdef readonly object sock     # kept open by us
    cdef readonly Settings settings
    cdef int fd
    cdef uint32_t index
    cdef bint armed


cdef class Reactor(Slots):
    cdef object __weakref__
    cdef int epoll
    # Servers that use it; with none, and no connection, it ends.
    cdef int users

    # --- descriptors
    cdef list listeners           # by index; None: closed

    # --- this turn
    cdef epoll_event[MAX_EVENTS] events
    cdef uint8_t *scratch
    cdef Endpoint delivering      # its coroutine is taking what came
    cdef object pending_error     # to be raised when the turn is in order
    # Slots of connections with output, a queue: dirty[dirty_start .. dirty_end).
    cdef uint32_t *dirty
    cdef size_t dirty_start, dirty_end, dirty_room
    cdef list lost                # connections that were dropped and have not been told
    cdef bint pass_scheduled      # `later` will be called at the loop's next pass

    cdef int deliver(self, Endpoint connection) except -1
    cdef int handle(self, epoll_event *event) except -1
    cdef int read(self, Endpoint connection) except -1
    cdef int tell_lost(self) except -1
    cdef int end_batch(self, Endpoint connection) except -1
    cdef int flush_dirty(self) except -1
    cdef int need_pass(self) except -1
    cdef int send_some(self, Endpoint connection) except -1
    cdef int set_interest(self, Endpoint connection, uint32_t interest) except -1
    cdef int accept(self, Listener listener) except -1
    cdef int adopt(self, int fd, Settings settings, uint8_t *address, unsigned address_size) except -1
    cdef Connection make(self, int fd, Settings settings, uint8_t *address, unsigned address_size)
    cdef int close_descriptor(self, Endpoint connection) except -1
    cdef int disarm(self, Listener listener) except -1
    cdef int shut(self, Endpoint connection) except -1
