from fastws._connection cimport Connection
from fastws._streams cimport Link


cdef class Exchange(Link):
    # It outlives the transport, for what was received and how it ended.
    cdef readonly Connection ws
    # The application has accepted the connection, and not closed it.
    cdef public bint accepted
    # Why a send fails when the peer has left: an OSError's class, as the server has it.
    cdef object disconnected

    cdef object sent(self, event)
