from cpython.object cimport PyTypeObject

from fastws._endpoint cimport Endpoint

cdef extern from *:
    ctypedef void *iternextfunc
    ctypedef void *sendfunc


cdef class Awaitable:
    pass


cdef class Ready(Awaitable):
    # An awaitable with nothing to wait for: its result is None.
    pass

cdef Ready READY


cdef class Failing(Awaitable):
    cdef object error

# An awaitable that raises.
cdef object failing(error)


# What an awaitable of a connection's waits for.
cdef enum Event:
    DRAINED             # no more than write_limit bytes wait
    CLOSED


cdef class Waiting(Awaitable):
    cdef Endpoint endpoint
    cdef Event event
    cdef object waits             # the future's iterator, once it has begun

cdef object waiting(Endpoint endpoint, Event event)


cdef class Pinged(Awaitable):
    cdef Endpoint endpoint
    cdef list ping

# Await a future for the Pong to `ping`, an entry of `extras.pings`.
cdef object pinged(Endpoint endpoint, list ping)


# The exception that `throw` was given, in either of its forms.
cdef object thrown(kind, value, traceback)

# Give a type the slots behind `await`, in C.
cdef int set_await_slots(PyTypeObject *kind, iternextfunc next_slot, sendfunc send_slot) except -1
