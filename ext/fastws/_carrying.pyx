"""Carrying: what a reactor and an event loop's transports do alike with a connection.

In: the beginning and the end of connections, batches of input that were parsed, output that a handler wants sent
now. Out: counts that are right, coroutines that were woken, calls of `send_some`, and of `sendmsg`.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno

from fastws._endpoint cimport GONE, OPENING, RUNNING, Endpoint
from fastws._outbox cimport iovec, outbox_free, outbox_sent, outbox_vectors
from fastws._settings cimport Settings
from fastws._slots cimport Slots


cdef class Carrying(Slots):
    """See above."""

    # ------------------------------------------------------------------ users

    def hold(self):
        """Count a user; each calls `release` once."""
        self.users += 1

    def release(self):
        """Give up a use; the last one, with no connection left, ends it."""
        self.users -= 1
        self.end_if_unused()

    def end_if_unused(self):
        """Internal."""

    # ------------------------------------------------------------------ connections

    cdef int let_in(self, Endpoint connection, Settings settings, int fd) except -1:
        connection.carrier = self
        connection.settings = settings
        connection.max_size = settings.max_size
        connection.text_as_bytes = settings.text_as_bytes
        connection.slot = self.take_slot()
        connection.fd = fd
        self.connections[connection.slot] = connection
        self.open_count += 1
        settings.opening_count += 1
        return 0

    cdef int let_go(self, Endpoint connection) except -1:
        connection.fd = -1
        self.free_slot(connection.slot)
        self.open_count -= 1
        if connection.phase == OPENING:
            connection.settings.opening_count -= 1
        else:
            connection.settings.open_count -= 1
        connection.phase = GONE
        connection.end_compression()
        # What was received with the frame that is being delivered stays undelivered.
        connection.held = True
        connection.dirty = connection.blocked = False
        if connection.outbox != NULL:
            outbox_free(connection.outbox)
            connection.outbox = NULL
        return 0

    cdef bint is_full(self, Settings settings) noexcept:
        return settings.open_count >= settings.max_connections or settings.opening_count > settings.max_opening

    # ------------------------------------------------------------------ batches

    @cython.nonecheck(False)
    cdef int deliver(self, Endpoint connection) except -1:
        """A batch was parsed: let a coroutine have it, and then what it has made room for."""
        if connection.receiver is None and connection.rest == NULL:
            return connection.leave_if_idle() if connection.leaving else 0
        self.delivering = connection
        try:
            connection.input_done()
            while connection.rest != NULL and not connection.held and connection.phase == RUNNING:
                connection.deliver_rest()
                connection.input_done()
        finally:
            self.delivering = None
        # Behind what the batch was answered with, in the same send.
        return connection.leave_if_idle() if connection.leaving else 0

    @cython.nonecheck(False)
    cdef int end_batch(self, Endpoint connection) except -1:
        if connection.blocked or connection.fd < 0:
            return 0
        return connection.output_left() if connection.outbox == NULL else self.send_some(connection)

    cdef int flush(self, Endpoint connection) except -1:
        # The caller is a handler: that its output has left is told when it has returned.
        cdef bint over_limit = connection.over_limit
        connection.over_limit = False
        self.send_some(connection)
        connection.over_limit = over_limit
        if over_limit and connection.fd >= 0 and not connection.dirty and not connection.blocked:
            return self.schedule(connection)
        return 0

    cdef bint send_scheduled(self, Endpoint connection) except -1:
        if not connection.dirty:
            return False
        connection.dirty = False
        if connection.outbox == NULL:
            connection.output_left()
        elif not connection.blocked:
            self.send_some(connection)
            return True
        return False

    cdef int send_some(self, Endpoint connection) except -1:
        return 0

    cdef bint send_plain(self, Endpoint connection) except -1:
        cdef iovec[MAX_VECTORS] vectors
        cdef int count, calls
        cdef size_t wanted
        cdef ssize_t size
        for calls in range(SEND_CALLS):
            if connection.outbox == NULL:
                break
            count = outbox_vectors(connection.outbox, vectors, MAX_VECTORS)
            size = send_vectors(connection.fd, vectors, count)
            if size < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:
                    self.drop(connection)
                    return False
                break
            if <size_t>size == connection.outbox.size:
                outbox_free(connection.outbox)
                connection.outbox = NULL
                break
            wanted = 0
            while count:
                count -= 1
                wanted += vectors[count].iov_len
            outbox_sent(connection.outbox, <size_t>size)
            if <size_t>size < wanted:
                break
        return True

    def raise_pending(self):
        """Internal."""
        error = self.pending_error
        if error is not None:
            self.pending_error = None
            raise error
