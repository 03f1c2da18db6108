from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._sending cimport Sending


cdef class Handling(Sending):
    # What is left of a message whose recv_streaming ended early is passed over.
    cdef uint8_t discarding

    # Handlers.
    cdef int call(self, object function, PyObject *first, PyObject *second, bint closing) except -1
    cdef int start_task(self, coroutine, function, bint closing) except -1
    cdef int start_main(self) except -1
    # Messages for a coroutine.
    cdef int deliver(self, object item) except -1
