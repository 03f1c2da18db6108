from fastws._endpoint cimport Endpoint
from fastws._outbox cimport iovec
from fastws._settings cimport Settings
from fastws._slots cimport Slots

cdef extern from *:
    """
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0  /* Python has SIGPIPE ignored */
    #endif
    """
    int MSG_NOSIGNAL
    ssize_t send(int, const void *, size_t, int) nogil
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int, const msghdr *, int) nogil

cdef enum:
    MAX_VECTORS = 64
    SEND_CALLS = 4               # for one connection at a time


cdef class Carrying(Slots):
    cdef int users                # servers; with none, and no connection, it ends
    cdef Endpoint delivering      # its coroutine is taking what came
    cdef object pending_error     # to be raised when all is in order
    cdef bint pass_scheduled      # `later` will be called at the loop's next pass

    # A connection begins: it has a slot, and counts as opening, until `let_go`.
    cdef int let_in(self, Endpoint connection, Settings settings, int fd) except -1
    # It is over here, and the connection is not told. Its descriptor is not closed.
    cdef int let_go(self, Endpoint connection) except -1
    # Of a server's: whether there are too many already.
    cdef bint is_full(self, Settings settings) noexcept
    # A batch was parsed.
    cdef int deliver(self, Endpoint connection) except -1
    # Send what a batch of input queued for its own connection.
    cdef int end_batch(self, Endpoint connection) except -1
    # Send what waits, as far as it is taken.
    cdef int send_some(self, Endpoint connection) except -1
    # Send what waits to its descriptor, as far as the peer takes it; at most a few calls. False: the connection was
    # dropped, since the peer has gone.
    cdef bint send_plain(self, Endpoint connection) except -1
