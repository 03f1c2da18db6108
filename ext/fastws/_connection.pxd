from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._sending cimport Sending


cdef class Connection(Sending):
    # A coroutine is in recv_streaming; what is left of a message that one left early is passed over.
    cdef uint8_t taking_stream
    cdef uint8_t discarding

    # Handlers.
    cdef int call(self, object function, PyObject *first, PyObject *second, bint closing) except -1
    cdef int start_task(self, coroutine, function, bint closing) except -1
    cdef int start_main(self) except -1
    # Messages for a coroutine.
    cdef int deliver(self, object item) except -1
    cdef int discard_fragments(self) except -1
    cdef int check_receives(self) except -1
