cimport cython
from libc.stdint cimport uint8_t

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

    static inline ssize_t fastws_send(int fd, struct iovec *vectors, int count)
    {
        struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)count};
        if (count == 1) /* sendmsg costs more */
            return send(fd, vectors->iov_base, vectors->iov_len, MSG_NOSIGNAL);
        return sendmsg(fd, &message, MSG_NOSIGNAL);
    }
    """
    ssize_t send_vectors "fastws_send"(int fd, iovec *vectors, int count) nogil

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
    # It was scheduled, and its turn has come. Returns whether anything was sent.
    cdef bint send_scheduled(self, Endpoint connection) except -1
    # Send what waits, as far as it is taken.
    cdef int send_some(self, Endpoint connection) except -1
    # Send what waits to its descriptor, as far as the peer takes it; at most a few calls. False: the connection was
    # dropped, since the peer has gone.
    cdef bint send_plain(self, Endpoint connection) except -1


# Take a batch of input: `size` bytes at `data`, or in the connection's direct buffer. What it queues is for `end_batch`
# to send: marked as queued for sending, it is not queued again. Inline, for a call costs 2 % of the least batch.
@cython.nonecheck(False)
cdef inline int take_batch(Carrying carrier, Endpoint connection, uint8_t *data, Py_ssize_t size,
                           bint direct) except -1:
    connection.dirty = True
    try:
        if direct:
            connection.direct_bytes_received(<size_t>size)
        else:
            connection.bytes_received(data, size)
        carrier.deliver(connection)
    finally:
        connection.dirty = False
    return 0
