"""Streams: connections on an event loop's own transports, where there is no reactor.

In: the calls that asyncio makes of a protocol. Out: bytes for connections, and their outboxes to transports.

A transport has a buffer of its own, which is not ours to look into. So it gets little at a time and has to ask for
a pause as soon as it keeps anything back; what is over that stays in the connection's outbox, where limits, policies
and control frames that overtake work as they do on a reactor. While it keeps nothing, and passes bytes on as they
are, the socket is written to past it; it gets what the socket did not take, and waits.
"""

import weakref

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_WRITE
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memmove

from fastws._carrying cimport MAX_VECTORS
from fastws._connection cimport Connection
from fastws._encrypting cimport HANDSHAKE_SIZE, HEADROOM, SCRATCH_SIZE, Encrypting
from fastws._endpoint cimport DUE_LINGER, DUE_OPENING, LINGERING, OPENING, RUNNING, Endpoint
from fastws._outbox cimport iovec, outbox_free, outbox_place_pong, outbox_sent, outbox_settle, outbox_vectors
from fastws._settings cimport Settings
from fastws._slots cimport clock_ns
from fastws._tls cimport Tls

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()
    object PyMemoryView_FromMemory(char *data, Py_ssize_t size, int flags)

cdef enum:
    WRITE_MAX = 64 * 1024
    WAIT_FOR = 512
    # How long one pass may send.
    FLUSH_BUDGET_NS = 1000000
    SENDS_PER_LOOK = 16
    NO_DESCRIPTOR = 0x7FFFFFFF   # stands for one where a transport has none

# Where the transports are from that pass on what they get as it is.
cdef frozenset PLAIN = frozenset(("asyncio.selector_events", "uvloop.loop"))

# By id of the loop; kept alive by what uses it.
cdef dict known = {}


def streams_of(loop):
    """Return the streams of `loop`, made when first asked for."""
    reference = known.get(id(loop))
    cdef Streams streams = None if reference is None else reference()
    if streams is None or streams.closed or streams.loop is not loop:
        streams = Streams(loop)
        known[id(loop)] = weakref.ref(streams)
    return streams


cdef class Streams(Encrypting):
    """The transports of one event loop's connections."""

    def __init__(self, loop):
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.pending = []
        self.view = PyMemoryView_FromMemory(<char *>self.scratch, SCRATCH_SIZE, PyBUF_WRITE)
        self.encrypted_view = PyMemoryView_FromMemory(<char *>self.scratch + HEADROOM, SCRATCH_SIZE, PyBUF_WRITE)

    # ------------------------------------------------------------------ users

    def end_if_unused(self):
        """Internal."""
        if self.users == 0 and self.open_count == 0 and not self.closed:
            self.closed = True
            if not self.loop.is_closed():
                self.stop_timer()
            self.timer = self.context_timer = None
            known.pop(id(self.loop), None)

    def close(self):
        """Abort every transport. Connections are told nothing."""
        cdef Endpoint connection
        for connection in list(self.connections):
            if connection is not None:
                self.drop(connection)
        self.users = 0
        self.end_if_unused()

    # ------------------------------------------------------------------ output

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
                if not connection.dirty:
                    continue
                connection.dirty = False
                if connection.outbox == NULL:
                    connection.output_left()
                elif not connection.blocked:
                    self.send_some(connection)
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
        cdef Link link
        if connection.fd < 0:
            return 0
        link = connection.extras.link
        if link.transport.is_closing():
            # connection_lost is on its way.
            return 0
        if connection.outbox != NULL and connection.outbox.pong_size:
            outbox_place_pong(connection.outbox)
        if not (self.give_queued(connection, link) if connection.tls is None else
                self.give_records(connection, connection.tls, link)):
            return 0
        if connection.outbox == NULL:
            if connection.phase == LINGERING:
                self.shut(connection)
        elif connection.blocked:
            outbox_settle(connection.outbox)
        if connection.over_limit:
            connection.output_left()
        return 0

    cdef bint give_queued(self, Endpoint connection, Link link) except -1:
        """False: the connection was dropped."""
        cdef iovec[MAX_VECTORS] vectors
        cdef int count, i
        cdef size_t size, left, part
        cdef bytes data
        cdef char *target
        while connection.outbox != NULL and not connection.blocked:
            if link.has_nothing():
                if not self.send_plain(connection):
                    return False
                if connection.outbox == NULL:
                    break
            count = outbox_vectors(connection.outbox, vectors, MAX_VECTORS)
            size = 0
            for i in range(count):
                size += vectors[i].iov_len
            size = min(size, link.most())
            data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
            target = PyBytes_AS_STRING(data)
            left = size
            for i in range(count):
                part = min(vectors[i].iov_len, left)
                memcpy(target, vectors[i].iov_base, part)
                target += part
                left -= part
            if size == connection.outbox.size:
                outbox_free(connection.outbox)
                connection.outbox = NULL
            else:
                outbox_sent(connection.outbox, size)
            link.give(data)
        return True

    cdef bint give_records(self, Endpoint connection, Tls tls, Link link) except -1:
        """The same with TLS."""
        while not connection.blocked:
            if tls.waiting is None and not self.make_records(connection, tls):
                break
            if link.has_nothing() and self.send_records(connection, tls):
                continue
            if connection.fd < 0:
                break
            link.give(tls.next_piece(link.most()))
        if connection.fd < 0:
            return False
        self.keep_outbox(connection, tls)
        return True

    # ------------------------------------------------------------------ input again

    cdef int resume(self, Endpoint connection) except -1:
        cdef Link link
        if connection.fd < 0:
            return 0
        link = connection.extras.link
        if connection.phase == RUNNING and (
                connection.rest != NULL or link.ended or (connection.tls is not None and connection.tls.ended)):
            # Not here: the caller may be a handler, whose messages would overtake each other.
            if self.delivering is not connection:
                self.loop.call_soon(self.resume_now, connection)
            return 0
        link.resume_reading()
        return 0

    def resume_now(self, Endpoint connection):
        """Internal: deliver what was received while delivery was held, then receive again."""
        cdef Link link
        if connection.fd < 0:
            return
        self.update_clock()
        connection.deliver_rest()
        self.deliver(connection)
        if not connection.dirty:
            self.end_batch(connection)
        if connection.tls is not None and connection.tls.ended:
            self.end_encrypted(connection)
        if connection.fd >= 0 and not connection.held and connection.rest == NULL:
            link = connection.extras.link
            link.resume_reading()
            if link.ended and connection.phase == RUNNING:
                connection.end_received()

    # ------------------------------------------------------------------ TLS

    cdef int encrypted_received(self, Endpoint connection, Py_ssize_t size) except -1:
        """The transport has put records, or parts of them, where `encrypted_view` is."""
        cdef const uint8_t *data = self.scratch + HEADROOM
        cdef Tls tls = connection.tls
        cdef Link link = connection.extras.link
        if not tls.ready and tls.failure is None:
            if tls.header_first is not None:
                return self.header_received(connection, size)
            if self.has_time_to_shake():
                self.need_pass()  # where the next turn's share begins
                return self.shake_with(connection, tls, data, size)
            link.unshaken = data[:size]
            link.pause_reading()
            self.shaking.append(connection)
            return self.need_pass()
        if tls.closed or tls.failure is not None:
            # Past our last word: it is counted, and thrown away.
            return connection.bytes_received(self.scratch + HEADROOM, size)
        return self.take_encrypted(connection, tls, data, size)

    cdef int header_received(self, Endpoint connection, Py_ssize_t size) except -1:
        """The same with what a proxy says first; what is behind is received again, as what it is."""
        cdef uint8_t *data = self.scratch + HEADROOM
        cdef Py_ssize_t used = connection.header_received(data[:size])
        if connection.fd < 0 or used == size:
            return 0
        memmove(data, data + used, <size_t>(size - used))
        return (<Link>connection.extras.link).received(data, size - used, False)

    cdef int shake_again(self, Endpoint connection) except -1:
        cdef Link link = connection.extras.link
        cdef bytes data = link.unshaken
        link.unshaken = None
        link.resume_reading()
        # From where what is behind the handshake is put: it does not overlap itself.
        return self.shake_with(connection, connection.tls, <const uint8_t *>PyBytes_AS_STRING(data), len(data))

    # ------------------------------------------------------------------ life

    cdef Connection adopt(self, Link link):
        """Make the connection of a transport."""
        cdef Connection connection = Connection.__new__(Connection)
        sock = link.transport.get_extra_info("socket")
        connection.fd_is_borrowed = True
        self.let_in(connection, link.settings,
                    NO_DESCRIPTOR if sock is None or sock.fileno() < 0 else sock.fileno())
        connection.more().link = link
        return connection

    cdef int drop(self, Endpoint connection) except -1:
        cdef Link link
        if connection.fd >= 0:
            link = connection.extras.link
            self.let_go(connection)
            link.transport.abort()  # which calls connection_lost, soon
        return 0

    cdef int finish(self, Endpoint connection) except -1:
        if connection.fd < 0:
            return 0
        if connection.tls is not None and not connection.tls.ready and connection.tls.failure is None:
            # Saying anything would cost the handshake first.
            return self.drop(connection)
        self.set_deadline(connection, DUE_LINGER, connection.settings.close_timeout)
        (<Link>connection.extras.link).resume_reading()
        if connection.outbox == NULL:
            return self.shut(connection)
        if not connection.blocked and not connection.dirty:
            return self.schedule(connection)
        return 0

    cdef int shut(self, Endpoint connection) except -1:
        # See Writing.shut. The transport's own TLS has no half-closed connections: all that is left is to close.
        cdef object transport = (<Link>connection.extras.link).transport
        if connection.tls is not None:
            connection.tls.close()
            if connection.tls.waiting is not None:
                return 0 if connection.blocked else self.send_some(connection)  # which comes back here
        if (<Link>connection.extras.link).ended:
            transport.close()  # once it has sent what it has
        elif not connection.shut and (not connection.client or connection.failed):
            connection.shut = True
            try:
                if transport.can_write_eof():
                    transport.write_eof()
                else:
                    transport.close()
            except OSError:
                transport.abort()  # the peer has gone already
        return 0

    cdef int raise_later(self, error) except -1:
        if self.pending_error is None:
            self.pending_error = error
            self.loop.call_soon(self.raise_pending)
        return 0

    cdef size_t unsent(self, Endpoint connection) except? 0:
        return 0 if connection.fd < 0 else (<Link>connection.extras.link).transport.get_write_buffer_size()

    cdef object address_of(self, Endpoint connection, bint peer):
        cdef Link link = connection.extras.link
        if peer:
            return link.peername
        return link.sockname if connection.fd >= 0 else None


cdef class Link:
    """
    One connection's end of a transport: what asyncio calls a protocol.

    Args:
        settings: of the server or the client.
        handshake: a ClientHandshake; None is the server's side.
        opened: a future for a client's Connection.
        server_hostname: of a client with TLS.

    Raises: ValueError and ssl.SSLError, of a client, for what its context does not allow.
    """

    def __init__(self, Streams carrier not None, Settings settings not None, handshake=None, opened=None,
                 server_hostname=None):
        cdef Tls tls
        self.carrier = carrier
        self.settings = settings
        self.handshake = handshake
        self.opened = opened
        if handshake is not None and settings.ssl is not None:
            tls = Tls(settings.ssl, False, server_hostname)
            tls.begin()
            self.begun = tls

    def connection_made(self, transport):
        """Internal: asyncio's."""
        cdef Connection connection
        cdef Streams carrier = self.carrier
        self.transport = transport
        # Not 0, at which those of TLS would ask for a pause when they have nothing.
        transport.set_write_buffer_limits(1, 0)
        self.tls = transport.get_extra_info("sslcontext") is not None
        self.is_plain = not self.tls and type(transport).__module__ in PLAIN
        self.may_hold = True
        peername = transport.get_extra_info("peername")
        self.peername = "" if peername is None or isinstance(peername, bytes) else peername
        self.sockname = transport.get_extra_info("sockname")
        carrier.update_clock()
        self.connection = connection = carrier.adopt(self)
        if connection.fd == NO_DESCRIPTOR:
            self.is_plain = False
        if self.handshake is not None:
            connection.begin_as_client(self.handshake, self.opened)
            if self.begun is None:
                connection.connected()
            else:
                connection.tls = self.begun
                self.begun = None
                carrier.shake_with(connection, connection.tls, NULL, 0)
        elif carrier.is_full(self.settings):
            connection.turn_away()
        else:
            if self.settings.ssl is not None or self.settings.proxies is not None:
                connection.tls = carrier.tls_of(self.settings, connection)
            carrier.set_deadline(connection, DUE_OPENING, self.settings.open_timeout)

    def connection_lost(self, exc):
        """Internal: asyncio's."""
        cdef Connection connection = self.connection
        if connection is None:
            return
        if connection.fd >= 0 and connection.phase == OPENING:
            connection.opening_ended("left before the opening handshake was complete")
        if connection.fd >= 0:
            self.carrier.let_go(connection)
        connection.lost()
        self.connection = None  # else it would take the collector to free them
        self.carrier.end_if_unused()

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

    def get_buffer(self, hint):
        """Internal: asyncio's."""
        cdef size_t room
        cdef uint8_t *target = NULL
        cdef Connection connection = self.connection
        self.direct = False
        if connection.tls is not None:
            view = self.carrier.encrypted_view
            return view if connection.tls.ready else view[:HANDSHAKE_SIZE]
        if connection.phase == RUNNING and connection.in_frame and connection.rest == NULL:
            try:
                target = connection.direct_buffer(&room)
            except MemoryError as error:
                # What comes is thrown away.
                connection.crashed(error, None)
                connection.after_input()
        if target == NULL:
            return self.carrier.view
        self.direct = True
        return PyMemoryView_FromMemory(<char *>target, <Py_ssize_t>room, PyBUF_WRITE)

    def buffer_updated(self, Py_ssize_t size):
        """Internal: asyncio's."""
        self.received(self.carrier.scratch, size, self.direct)

    def data_received(self, data):
        """Take bytes, where a transport, or whoever read the first of them, hands them over as an object."""
        cdef bytearray copy = bytearray(data)
        self.received(<uint8_t *><char *>copy, len(copy), False)

    cdef int received(self, uint8_t *data, Py_ssize_t size, bint direct) except -1:
        cdef Connection connection = self.connection
        cdef Streams carrier = self.carrier
        if connection is None or connection.fd < 0 or size == 0:
            return 0
        carrier.update_clock()
        connection.received_at = carrier.now
        if connection.tls is not None:
            carrier.encrypted_received(connection, size)
        elif connection.rest != NULL and connection.phase == RUNNING:
            # It came although we had asked for a pause.
            return connection.keep_rest(data, size)
        else:
            # Marked as queued for sending, it is not queued again: it is flushed here.
            connection.dirty = True
            try:
                if direct:
                    connection.direct_bytes_received(<size_t>size)
                else:
                    connection.bytes_received(data, size)
                carrier.deliver(connection)
            finally:
                connection.dirty = False
            if connection.fd >= 0:
                carrier.end_batch(connection)
        if connection.held and connection.fd >= 0 and connection.phase != LINGERING:
            self.pause_reading()
        return 0

    cdef int pause_reading(self) except -1:
        if not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()
        return 0

    def resume_reading(self):
        """Internal."""
        if self.reading_paused and not self.transport.is_closing():
            self.reading_paused = False
            self.transport.resume_reading()

    def eof_received(self):
        """Internal: asyncio's. Returns: whether the transport stays open for what we have to say."""
        cdef Connection connection = self.connection
        if connection is None or connection.fd < 0:
            return False
        self.carrier.update_clock()
        self.ended = True
        if connection.phase == LINGERING:
            if connection.outbox == NULL:
                self.carrier.shut(connection)
        elif connection.phase != RUNNING or connection.rest == NULL:
            connection.end_received()
        # Else it comes behind what waits to be delivered, see resume_now: of what came before the opening handshake
        # was complete, nobody has made the transport pause.
        return not self.tls

    def pause_writing(self):
        """Internal: asyncio's."""
        if self.connection is not None and self.connection.fd >= 0:
            self.connection.blocked = True

    def resume_writing(self):
        """Internal: asyncio's."""
        cdef Connection connection = self.connection
        if connection is not None and connection.fd >= 0 and connection.blocked:
            connection.blocked = False
            if connection.outbox == NULL and (connection.tls is None or connection.tls.waiting is None):
                connection.output_left()
                if connection.phase == LINGERING:
                    self.carrier.shut(connection)
            else:
                self.carrier.send_some(connection)
