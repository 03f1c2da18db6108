from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._carrying cimport Carrying
from fastws._connection cimport Connection
from fastws._endpoint cimport Endpoint
from fastws._settings cimport Settings


cdef class Streams(Carrying):
    cdef object __weakref__
    cdef uint8_t *scratch
    cdef object view              # of `scratch`, for transports to fill
    cdef list pending             # connections with output, to be sent at the loop's next pass

    cdef Connection adopt(self, Link link)
    cdef int shut(self, Endpoint connection) except -1
    cdef int need_pass(self) except -1


cdef class Link:
    cdef readonly Streams carrier
    cdef readonly Settings settings
    cdef readonly object transport
    cdef readonly Connection connection
    # Of a client: its handshake until it has a transport, and the future for the connection.
    cdef object handshake, opened
    cdef object peername, sockname
    cdef bint tls
    cdef bint is_plain            # what it gets goes to the socket as it is
    cdef bint may_hold            # it may not have sent all that it got
    cdef bint direct              # the transport fills the message under way itself
    cdef bint reading_paused
    cdef bint ended               # the peer has ended its side

    cdef int received(self, uint8_t *data, Py_ssize_t size, bint direct) except -1
    cdef bint has_nothing(self) except -1
