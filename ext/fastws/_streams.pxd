from libc.stdint cimport uint8_t

from fastws._connection cimport Connection
from fastws._endpoint cimport Endpoint
from fastws._giving cimport Giving, Sink
from fastws._settings cimport Settings
from fastws._tls cimport Tls


cdef class Streams(Giving):
    cdef object __weakref__
    # Of `scratch`, for transports to fill.
    cdef object view, encrypted_view

    cdef Connection adopt(self, Link link)
    cdef int encrypted_received(self, Endpoint connection, Py_ssize_t size) except -1
    cdef int header_received(self, Endpoint connection, Py_ssize_t size) except -1


cdef class Link(Sink):
    cdef readonly Streams carrier
    cdef readonly Settings settings
    cdef readonly Connection connection
    # Of a client: its handshake until it has a transport, and the future for the connection.
    cdef object handshake, opened
    cdef object peername, sockname
    cdef bint tls                 # the transport's own
    cdef Tls begun                # a client's of ours, until it has a transport
    cdef bytes unshaken           # what the next step of its handshake is to get
    cdef bint direct              # the transport fills the message under way itself
    cdef bint reading_paused
    cdef bint ended               # the peer has ended its side

    cdef int received(self, uint8_t *data, Py_ssize_t size, bint direct) except -1
    cdef int pause_reading(self) except -1
