"""Writing: what connections queue, to their sockets; and the end of their descriptors.

In: outboxes, as turns and handlers leave them. Out: what leaves, at once or when the socket takes more.
"""

import os

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastws._carrying cimport SEND_CALLS
from fastws._encrypting cimport Encrypting
from fastws._endpoint cimport LINGERING, Endpoint
from fastws._outbox cimport outbox_place_pong, outbox_settle
from fastws._slots cimport clock_ns
from fastws._tls cimport Tls

cdef extern from *:
    """
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <unistd.h>
    """
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int) nogil
    int epoll_ctl(int, int, int, epoll_event *) nogil
    int EPOLL_CLOEXEC, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    uint32_t EPOLLIN, EPOLLOUT
    int SHUT_WR
    int close(int) nogil
    int shutdown(int, int) nogil

cdef enum:
    # How long one turn may send, after its reads.
    FLUSH_BUDGET_NS = 1000000
    SENDS_PER_LOOK = 16          # at the clock


cdef class Writing(Encrypting):
    """See above."""

    def __cinit__(self):
        self.epoll = -1
        self.dirty = NULL
        self.lost = []

    def __dealloc__(self):
        # The loop was closed and everything let go: nobody is left to tell.
        if self.epoll >= 0:
            close(self.epoll)
        PyMem_Free(self.dirty)

    # ------------------------------------------------------------------ the loop's next pass

    def later(self):
        """Run what was left for, or asked of, the loop's next pass."""
        self.pass_scheduled = False
        if self.closed:
            return
        self.update_clock()
        self.in_turn = True
        try:
            self.end_turn()
        finally:
            self.in_turn = False
        self.raise_pending()

    cdef int raise_later(self, error) except -1:
        if self.pending_error is None:
            self.pending_error = error
        return self.need_pass()

    cdef int need_pass(self) except -1:
        if not self.pass_scheduled and not self.in_turn and not self.loop.is_closed():
            self.pass_scheduled = True
            self.loop.call_soon(self.later)
        return 0

    # ------------------------------------------------------------------ output

    cdef int schedule(self, Endpoint connection) except -1:
        cdef uint32_t *bigger
        if self.dirty_end == self.dirty_room:
            self.dirty_room = 2 * self.dirty_room if self.dirty_room else 256
            bigger = <uint32_t *>PyMem_Realloc(self.dirty, self.dirty_room * sizeof(uint32_t))
            if bigger == NULL:
                raise MemoryError
            self.dirty = bigger
        self.dirty[self.dirty_end] = connection.slot
        self.dirty_end += 1
        connection.dirty = True
        return self.need_pass()

    cdef int flush_dirty(self) except -1:
        """Send what is queued, for about a millisecond; what is left has its turn next time."""
        cdef int64_t end = 0
        cdef int sends = 0
        cdef uint32_t slot
        while self.dirty_start < self.dirty_end:
            slot = self.dirty[self.dirty_start]
            self.dirty_start += 1
            entry = self.connections[slot]
            if entry is None:
                continue
            if self.send_scheduled(<Endpoint>entry):
                sends += 1
                if sends % SENDS_PER_LOOK == 0:
                    if end == 0:
                        end = clock_ns() + FLUSH_BUDGET_NS
                    elif clock_ns() > end:
                        break
        if self.dirty_start == self.dirty_end:
            self.dirty_start = self.dirty_end = 0
        elif 2 * self.dirty_start > self.dirty_room:
            memcpy(self.dirty, self.dirty + self.dirty_start,
                   (self.dirty_end - self.dirty_start) * sizeof(uint32_t))
            self.dirty_end -= self.dirty_start
            self.dirty_start = 0
        return 0

    @cython.nonecheck(False)
    cdef int send_some(self, Endpoint connection) except -1:
        """Send what waits, as far as the peer takes it; at most a few calls."""
        cdef bint was_blocked = connection.blocked
        if connection.fd < 0:
            return 0
        if connection.outbox != NULL and connection.outbox.pong_size:
            outbox_place_pong(connection.outbox)
        if connection.tls is not None:
            if not self.send_encrypted(connection, connection.tls):
                return 0
        elif not self.send_plain(connection):
            return 0
        if connection.outbox == NULL:
            if was_blocked:
                connection.blocked = False
                self.set_interest(connection, connection.interest & ~EPOLLOUT)
            if connection.phase == LINGERING:
                self.shut(connection)
        elif not was_blocked:
            connection.blocked = True
            outbox_settle(connection.outbox)
            self.set_interest(connection, connection.interest | EPOLLOUT)
        if connection.over_limit:
            connection.output_left()
        return 0

    cdef bint send_encrypted(self, Endpoint connection, Tls tls) except -1:
        """Send records that wait, then more of what is queued, as far as the peer takes it. False: it was dropped."""
        cdef int calls
        for calls in range(SEND_CALLS):
            if tls.waiting is None and not self.make_records(connection, tls):
                break
            if not self.send_records(connection, tls):
                break
        if connection.fd < 0:
            return False
        self.keep_outbox(connection, tls)
        return True

    cdef int set_interest(self, Endpoint connection, uint32_t interest) except -1:
        cdef epoll_event event
        if interest == connection.interest or connection.fd < 0:
            return 0
        event.events = interest
        event.data.u64 = <uint64_t>self.generations[connection.slot] << 32 | connection.slot
        if epoll_ctl(self.epoll, EPOLL_CTL_MOD, connection.fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        connection.interest = interest
        return 0

    # ------------------------------------------------------------------ the end of a descriptor

    cdef int close_descriptor(self, Endpoint connection) except -1:
        """Close it, and give back what it holds; the connection is not told."""
        cdef epoll_event event
        if connection.fd < 0:
            return 0
        # A duplicate of the descriptor, in a child say, would stay registered after close().
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, connection.fd, &event)
        close(connection.fd)
        return self.let_go(connection)

    cdef int drop(self, Endpoint connection) except -1:
        if connection.fd >= 0:
            self.close_descriptor(connection)
            self.lost.append(connection)
            self.need_pass()
        return 0

    cdef int shut(self, Endpoint connection) except -1:
        # Our last bytes are on their way. Closing now, with input unread, would send a RST that
        # may overtake them; the peer closes when it has seen our end, or the deadline does.
        # RFC 6455 7.1.1: a client leaves it to the server to end the TCP connection first.
        if not connection.shut and (not connection.client or connection.failed):
            if connection.tls is not None:
                connection.tls.close()
                if connection.tls.waiting is not None:
                    return self.send_some(connection)  # which comes back here
            connection.shut = True
            shutdown(connection.fd, SHUT_WR)
        return 0
