from fastws._encrypting cimport Encrypting
from fastws._endpoint cimport Endpoint
from fastws._tls cimport Tls


cdef class Sink:
    cdef readonly object transport
    cdef bint is_plain            # what it gets goes to the socket as it is
    cdef bint may_hold            # it may not have sent all that it got

    # `encrypts`: the transport has TLS of its own.
    cdef int give_to(self, transport, bint encrypts) except -1
    cdef bint has_nothing(self) except -1
    cdef size_t most(self) noexcept
    cdef int give(self, bytes data) except -1


cdef class Giving(Encrypting):
    cdef list pending             # connections with output, to be sent at the loop's next pass

    cdef int need_pass(self) except -1
    # False: the connection was dropped.
    cdef bint give_queued(self, Endpoint connection, Sink sink) except -1
    cdef bint give_records(self, Endpoint connection, Tls tls, Sink sink) except -1
