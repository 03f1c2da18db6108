from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastws._connection cimport Connection
from fastws._reading cimport Reading
from fastws._settings cimport Settings


cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data

cdef enum:
    MAX_EVENTS = 256


cdef class Listener:
    cdef readonly object sock     # kept open by us
    cdef readonly Settings settings
    cdef int fd
    cdef uint32_t index
    cdef bint armed


cdef class Reactor(Reading):
    cdef object __weakref__
    # --- descriptors
    cdef list listeners           # by index; None: closed

    # --- this turn
    cdef epoll_event[MAX_EVENTS] events

    cdef int handle(self, epoll_event *event) except -1
    cdef int tell_lost(self) except -1
    cdef int accept(self, Listener listener) except -1
    cdef int adopt(self, int fd, Settings settings, uint8_t *address, unsigned address_size) except -1
    cdef Connection make(self, int fd, Settings settings, uint8_t *address, unsigned address_size)
    cdef int disarm(self, Listener listener) except -1
