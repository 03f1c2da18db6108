"""Encrypting: a connection's bytes through its `Tls`, whatever carries the records.

In: records as they were received, outboxes. Out: plaintext for connections, and records that are to leave. Records are
made only while no earlier ones wait, so that an outbox stays the one queue. Handshakes, of which each step costs a
fraction of a millisecond, have a bounded share of each turn.
"""

from collections import deque

from fastws.proxy_protocol import ProxyHeader

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from fastws._carrying cimport MAX_VECTORS, Carrying, send_vectors, take_batch
from fastws._endpoint cimport DUE_LINGER, RUNNING, Endpoint
from fastws._outbox cimport iovec, outbox_free, outbox_new, outbox_take
from fastws._settings cimport Settings
from fastws._slots cimport clock_ns
from fastws._tls cimport RECORD_PLAIN, RECORDS_AT_ONCE, Tls

cdef enum:
    # How long one turn may spend on handshakes, TLS's and opening ones.
    HANDSHAKE_BUDGET_NS = 2000000


cdef class Encrypting(Carrying):
    """See above."""

    def __cinit__(self):
        self.plain = NULL
        self.scratch = <uint8_t *>PyMem_Malloc(HEADROOM + SCRATCH_SIZE)
        if self.scratch == NULL:
            raise MemoryError
        self.shaking = deque()

    def __dealloc__(self):
        PyMem_Free(self.scratch)
        PyMem_Free(self.plain)

    # ------------------------------------------------------------------ the beginning

    cdef Tls tls_of(self, Settings settings, Endpoint connection):
        cdef Tls tls = None if settings.ssl is None else Tls(settings.ssl, True)
        cdef object proxies = settings.proxies
        if proxies is not None and proxies.in_stream and proxies.trusts(self.address_of(connection, True)):
            if tls is None:
                tls = Tls(None, True)
            tls.header_first = ProxyHeader()
        return tls

    # ------------------------------------------------------------------ input

    @cython.nonecheck(False)
    cdef int take_encrypted(self, Endpoint connection, Tls tls, const uint8_t *data, Py_ssize_t size) except -1:
        """Decrypt what was received, and let the connection parse and answer it, as `read` does."""
        size = tls.decrypt(data, size, self.scratch)
        if size:
            take_batch(self, connection, self.scratch, size, False)
        if connection.fd < 0:
            return 0
        if tls.failure is not None:
            return self.fail_encrypted(connection, tls)
        if tls.waiting is not None and not connection.blocked:
            self.send_some(connection)
        else:
            self.end_batch(connection)
        return self.end_encrypted(connection) if tls.ended else 0

    cdef int end_encrypted(self, Endpoint connection) except -1:
        """The peer's close_notify came. What waits to be delivered comes before it."""
        if connection.fd < 0 or (connection.phase == RUNNING and (connection.held or connection.rest != NULL)):
            return 0
        connection.end_received()
        if connection.fd >= 0:
            # It may wait for ours before it ends the TCP connection.
            connection.tls.close()
            self.send_some(connection)
            if connection.fd >= 0:
                connection.end_received()
        return 0

    cdef int fail_encrypted(self, Endpoint connection, Tls tls) except -1:
        """Send the alert that says why, if there is one, and nothing else any more."""
        if connection.outbox != NULL:
            outbox_free(connection.outbox)
            connection.outbox = NULL
        self.send_some(connection)
        if connection.fd >= 0:
            connection.encryption_failed(tls.failure)
        return 0

    cdef bint has_time_to_shake(self) except -1:
        cdef int64_t now = clock_ns()
        if self.shaking_until == 0:
            self.shaking_until = now + HANDSHAKE_BUDGET_NS
        return not self.shaking and now < self.shaking_until

    cdef int shake_more(self) except -1:
        """Go on with handshakes that had to wait, oldest first; at least with one."""
        cdef Endpoint connection
        while self.shaking:
            connection = <Endpoint>self.shaking.popleft()
            if connection.fd >= 0:
                self.shake_again(connection)
            if self.shaking_until == 0:
                self.shaking_until = clock_ns() + HANDSHAKE_BUDGET_NS
            elif clock_ns() >= self.shaking_until:
                break
        self.shaking_until = 0
        return 0

    cdef int shake_again(self, Endpoint connection) except -1:
        return 0

    cdef int shake_with(self, Endpoint connection, Tls tls, const uint8_t *data, Py_ssize_t size) except -1:
        cdef bytes behind
        tls.step(data, size)
        if connection.fd < 0:
            return 0  # a callback of the context's has ended it
        if tls.failure is not None:
            return self.fail_encrypted(connection, tls)
        if tls.waiting is not None and not connection.blocked:
            self.send_some(connection)
        if not tls.ready or connection.fd < 0:
            return 0
        if connection.client:
            connection.connected()
        behind = tls.behind_handshake()
        if behind:
            # In the same way as all that follows: from where it does not overlap its plaintext.
            memcpy(self.scratch + HEADROOM, <const uint8_t *>PyBytes_AS_STRING(behind), <size_t>len(behind))
            return self.take_encrypted(connection, tls, self.scratch + HEADROOM, len(behind))
        return 0

    # ------------------------------------------------------------------ input again

    cdef int resume(self, Endpoint connection) except -1:
        """Called by tasks that end, by `resume_reading`, and while input is parsed."""
        if connection.fd < 0:
            return 0
        if connection.phase != RUNNING or not self.has_kept(connection):
            return self.receive_again(connection)
        # Not here: the caller may be a handler, whose messages would overtake each other.
        if self.delivering is not connection:
            self.loop.call_soon(self.resume_now, connection)
        return 0

    def resume_now(self, Endpoint connection):
        """Internal: deliver what was received while delivery was held, then receive again."""
        if connection.fd < 0:
            return
        self.update_clock()
        connection.deliver_rest()
        self.deliver(connection)
        if not connection.dirty:
            self.end_batch(connection)
        if connection.tls is not None and connection.tls.ended:
            self.end_encrypted(connection)
        if connection.fd >= 0 and not connection.held:
            self.receive_again(connection)

    cdef bint has_kept(self, Endpoint connection) except -1:
        return connection.rest != NULL or (connection.tls is not None and connection.tls.ended)

    cdef int receive_again(self, Endpoint connection) except -1:
        return 0

    # ------------------------------------------------------------------ the end

    cdef int finish(self, Endpoint connection) except -1:
        if connection.fd < 0:
            return 0
        if connection.tls is not None and not connection.tls.ready and connection.tls.failure is None:
            # Saying anything would cost the handshake first.
            return self.drop(connection)
        self.set_deadline(connection, DUE_LINGER, connection.settings.close_timeout)
        self.receive_again(connection)
        if connection.outbox == NULL:
            return self.shut(connection)
        if not connection.blocked and not connection.dirty:
            return self.schedule(connection)
        return 0

    cdef int shut(self, Endpoint connection) except -1:
        return 0

    # ------------------------------------------------------------------ output

    cdef bint make_records(self, Endpoint connection, Tls tls) except -1:
        if connection.outbox == NULL or connection.outbox.size == 0:
            return False
        self.encrypt(connection, tls)
        if tls.failure is not None:
            self.drop(connection)
            return False
        return tls.waiting is not None

    cdef bint send_records(self, Endpoint connection, Tls tls) except -1:
        cdef iovec[MAX_VECTORS] vectors
        cdef ssize_t size
        while True:
            size = send_vectors(connection.fd, vectors, tls.vectors(vectors, MAX_VECTORS))
            if size >= 0:
                tls.left(<size_t>size)
                return tls.waiting is None
            if errno != EINTR:
                break
        if errno != EAGAIN:
            self.drop(connection)
        return False

    cdef int keep_outbox(self, Endpoint connection, Tls tls) except -1:
        if tls.waiting is None:
            if connection.outbox != NULL and connection.outbox.size == 0:
                outbox_free(connection.outbox)
                connection.outbox = NULL
        elif connection.outbox == NULL:
            connection.outbox = outbox_new()
        return 0

    cdef int encrypt(self, Endpoint connection, Tls tls) except -1:
        """Make records of what is queued, as many as go at once."""
        cdef size_t size
        if not tls.ready or self.encrypting:
            # A finalizer may run, and send, whenever memory is taken or given back.
            return 0
        if self.plain == NULL:
            self.plain = <uint8_t *>PyMem_Malloc(RECORDS_AT_ONCE * RECORD_PLAIN)
            if self.plain == NULL:
                raise MemoryError
        self.encrypting = True
        try:
            size = outbox_take(connection.outbox, self.plain, RECORDS_AT_ONCE * RECORD_PLAIN)
            tls.encrypt(self.plain, <Py_ssize_t>size)
        finally:
            self.encrypting = False
        return 0
