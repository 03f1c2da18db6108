"""Giving: what connections queue, to an event loop's transports.

In: outboxes, as batches and handlers leave them. Out: what leaves at once, or when the transport wants more.

A transport has a buffer of its own, which is not ours to look into. So it gets little at a time and has to ask for
a pause as soon as it keeps anything back; what is over that stays in the connection's outbox, where limits, policies
and control frames that overtake work as they do on a reactor. While it keeps nothing, and passes bytes on as they
are, the socket is written to past it; it gets what the socket did not take, and waits.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t

from fastws._encrypting cimport Encrypting
from fastws._endpoint cimport LINGERING, Endpoint
from fastws._outbox cimport outbox_free, outbox_place_pong, outbox_settle, outbox_take
from fastws._slots cimport clock_ns
from fastws._tls cimport Tls

cdef enum:
    WRITE_MAX = 64 * 1024
    WAIT_FOR = 512
    # How long one pass may send.
    FLUSH_BUDGET_NS = 1000000
    SENDS_PER_LOOK = 16

# Where the transports are from that pass on what they get as it is.
cdef frozenset PLAIN = frozenset(("asyncio.selector_events", "uvloop.loop"))


cdef class Sink:
    """A transport, as what takes bytes."""

    cdef int give_to(self, transport, bint encrypts) except -1:
        self.transport = transport
        # Not 0, at which those of TLS would ask for a pause when they have nothing.
        transport.set_write_buffer_limits(1, 0)
        self.is_plain = not encrypts and type(transport).__module__ in PLAIN
        self.may_hold = True
        return 0

    cdef bint has_nothing(self) except -1:
        """Tell whether all that the transport got is in its socket, and what is sent there comes behind it."""
        if self.may_hold and self.is_plain:
            self.may_hold = self.transport.get_write_buffer_size() != 0
        return not self.may_hold

    cdef size_t most(self) noexcept:
        """Not too much: a transport moves what it could not send. Where it is to wait and no more, little."""
        return WAIT_FOR if self.is_plain else WRITE_MAX

    cdef int give(self, bytes data) except -1:
        self.may_hold = True
        self.transport.write(data)
        return 0


cdef class Giving(Encrypting):
    """See above."""

    cdef int need_pass(self) except -1:
        if not self.pass_scheduled and not self.loop.is_closed():
            self.pass_scheduled = True
            self.loop.call_soon(self.later)
        return 0

    cdef int schedule(self, Endpoint connection) except -1:
        connection.dirty = True
        self.pending.append(connection)
        return self.need_pass()

    def later(self):
        """Internal: send what is queued, for about a millisecond; what is left has its turn next time."""
        cdef Endpoint connection
        cdef list pending = self.pending
        cdef int64_t end = clock_ns() + FLUSH_BUDGET_NS
        cdef Py_ssize_t sent = 0
        self.pass_scheduled = False
        self.pending = []
        try:
            self.shake_more()
            for connection in pending:
                sent += 1
                self.send_scheduled(connection)
                if sent % SENDS_PER_LOOK == 0 and clock_ns() > end:
                    break
        finally:
            # Also when there was no memory for one of them.
            if sent < len(pending):
                self.pending = pending[sent:] + self.pending
            if self.pending or self.shaking:
                self.need_pass()

    cdef int send_some(self, Endpoint connection) except -1:
        """Send what waits, until the transport asks for a pause."""
        cdef Sink sink
        if connection.fd < 0:
            return 0
        sink = connection.extras.link
        if sink.transport.is_closing():
            # connection_lost is on its way.
            return 0
        if connection.outbox != NULL and connection.outbox.pong_size:
            outbox_place_pong(connection.outbox)
        if not (self.give_queued(connection, sink) if connection.tls is None else
                self.give_records(connection, connection.tls, sink)):
            return 0
        if connection.outbox == NULL:
            if connection.phase == LINGERING:
                self.shut(connection)
        elif connection.blocked:
            outbox_settle(connection.outbox)
        if connection.over_limit:
            connection.output_left()
        return 0

    cdef bint give_queued(self, Endpoint connection, Sink sink) except -1:
        cdef size_t size
        cdef bytes data
        while connection.outbox != NULL and not connection.blocked:
            if sink.has_nothing():
                if not self.send_plain(connection):
                    return False
                if connection.outbox == NULL:
                    break
            size = min(connection.outbox.size, sink.most())
            data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
            outbox_take(connection.outbox, <uint8_t *>PyBytes_AS_STRING(data), size)
            if connection.outbox.size == 0:
                outbox_free(connection.outbox)
                connection.outbox = NULL
            sink.give(data)
        return True

    cdef bint give_records(self, Endpoint connection, Tls tls, Sink sink) except -1:
        while not connection.blocked:
            if tls.waiting is None and not self.make_records(connection, tls):
                break
            if sink.has_nothing() and self.send_records(connection, tls):
                continue
            if connection.fd < 0:
                break
            sink.give(tls.next_piece(sink.most()))
        if connection.fd < 0:
            return False
        self.keep_outbox(connection, tls)
        return True
