from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastws._connection cimport Connection
from fastws._endpoint cimport Carrier, Due, Endpoint
from fastws._settings cimport Settings
from fastws._wheel cimport Wheel


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


cdef class Reactor(Carrier):
    cdef object __weakref__
    cdef int epoll
    cdef readonly bint closed
    # Servers that use it; with none, and no connection, it ends.
    cdef int users

    # --- descriptors. A slot is a number for a connection; an event carries it with its
    # generation, so that an event for a descriptor that is gone finds nothing.
    cdef list connections         # by slot; None: free
    cdef uint32_t *generations    # by slot
    cdef uint32_t *free_slots     # a stack
    cdef uint32_t slots, free_count
    cdef readonly uint32_t open_count
    cdef list listeners           # by index; None: closed

    # --- this turn
    cdef epoll_event[MAX_EVENTS] events
    cdef uint8_t *scratch
    cdef bint in_turn
    cdef object pending_error     # to be raised when the turn is in order
    # Slots of connections with output, a queue: dirty[dirty_start .. dirty_end).
    cdef uint32_t *dirty
    cdef size_t dirty_start, dirty_end, dirty_room
    cdef list lost                # connections that were dropped and have not been told
    cdef bint pass_scheduled      # `later` will be called at the loop's next pass

    # --- time
    cdef Wheel *wheel
    cdef int64_t epoch            # of tick 0, ns
    cdef object timer             # the loop's; None: not running
    cdef uint32_t timer_tick

    cdef int handle(self, epoll_event *event) except -1
    cdef int read(self, Endpoint connection) except -1
    cdef int end_turn(self) except -1
    cdef int tell_lost(self) except -1
    cdef int flush_dirty(self) except -1
    cdef int need_pass(self) except -1
    cdef int send_some(self, Endpoint connection) except -1
    cdef int set_interest(self, Endpoint connection, uint32_t interest) except -1
    cdef int accept(self, Listener listener) except -1
    cdef int adopt(self, int fd, Settings settings, uint8_t *address, unsigned address_size) except -1
    cdef Connection make(self, int fd, Settings settings, uint8_t *address, unsigned address_size)
    cdef uint32_t take_slot(self) except? 0xFFFFFFFF
    cdef int close_descriptor(self, Endpoint connection) except -1
    cdef int disarm(self, Listener listener) except -1
    cdef int run_timer(self, uint32_t tick) except -1
    cdef int update_clock(self) noexcept
    cdef int shut(self, Endpoint connection) except -1
