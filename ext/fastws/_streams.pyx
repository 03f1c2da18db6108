"""Streams: connections on an event loop's own transports, where there is no reactor.

In: the calls that asyncio makes of a protocol. Out: bytes for connections, and their ends.
"""

import weakref

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.buffer cimport PyBUF_WRITE
from libc.stdint cimport uint8_t
from libc.string cimport memmove

from fastws._carrying cimport take_batch
from fastws._connection cimport Connection
from fastws._encrypting cimport HANDSHAKE_SIZE, HEADROOM, SCRATCH_SIZE, Encrypting
from fastws._endpoint cimport DUE_OPENING, LINGERING, OPENING, RUNNING, Endpoint
from fastws._giving cimport Giving, Sink
from fastws._settings cimport Settings
from fastws._tls cimport Tls

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()
    object PyMemoryView_FromMemory(char *data, Py_ssize_t size, int flags)

cdef enum:
    NO_DESCRIPTOR = 0x7FFFFFFF   # stands for one where a transport has none

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


cdef class Streams(Giving):
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

    # ------------------------------------------------------------------ input again

    cdef bint has_kept(self, Endpoint connection) except -1:
        return (<Link>connection.extras.link).ended or Encrypting.has_kept(self, connection)

    cdef int receive_again(self, Endpoint connection) except -1:
        cdef Link link = connection.extras.link
        link.resume_reading()
        if link.ended and connection.phase == RUNNING:
            connection.end_received()
        return 0

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


cdef class Link(Sink):
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
        self.tls = transport.get_extra_info("sslcontext") is not None
        self.give_to(transport, self.tls)
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
        cdef Py_ssize_t taken
        view = memoryview(data)
        while len(view) and self.connection is not None:
            buffer = self.get_buffer(len(view))
            taken = min(<Py_ssize_t>len(view), <Py_ssize_t>len(buffer))
            buffer[:taken] = view[:taken]
            view = view[taken:]
            self.buffer_updated(taken)

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
            take_batch(carrier, connection, data, size, direct)
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
