from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._connection cimport Connection
from fastws._encrypting cimport Encrypting
from fastws._endpoint cimport Endpoint
from fastws._settings cimport Settings
from fastws._tls cimport Tls


cdef class Streams(Encrypting):
    cdef object __weakref__
    # Of `scratch`, for transports to fill.
    cdef object view, encrypted_view
    cdef list pending             # connections with output, to be sent at the loop's next pass

    cdef Connection adopt(self, Link link)
    cdef int shut(self, Endpoint connection) except -1
    # False: the connection was dropped.
    cdef bint give_queued(self, Endpoint connection, Link link) except -1
    cdef bint give_records(self, Endpoint connection, Tls tls, Link link) except -1
    cdef int encrypted_received(self, Endpoint connection, Py_ssize_t size) except -1
    cdef int header_received(self, Endpoint connection, Py_ssize_t size) except -1
    cdef int need_pass(self) except -1


cdef class Link:
    cdef readonly Streams carrier
    cdef readonly Settings settings
    cdef readonly object transport
    cdef readonly Connection connection
    # Of a client: its handshake until it has a transport, and the future for the connection.
    cdef object handshake, opened
    cdef object peername, sockname
    cdef bint tls                 # the transport's own
    cdef Tls begun                # a client's of ours, until it has a transport
    cdef bytes unshaken           # what the next step of its handshake is to get
    cdef bint is_plain            # what it gets goes to the socket as it is
    cdef bint may_hold            # it may not have sent all that it got
    cdef bint direct              # the transport fills the message under way itself
    cdef bint reading_paused
    cdef bint ended               # the peer has ended its side

    cdef int received(self, uint8_t *data, Py_ssize_t size, bint direct) except -1
    cdef bint has_nothing(self) except -1
    cdef size_t most(self) noexcept
    cdef int give(self, bytes data) except -1
    cdef int pause_reading(self) except -1
