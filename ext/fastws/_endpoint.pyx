"""Endpoints: a protocol tied to a carrier: output queues, held input, deadlines and life.

In: bytes and events from a carrier (the reactor), frames from the protocol. Out: outboxes for
the carrier, and what the next layer, a `Connection`, tells handlers. RFC 6455 5.5 and 7.

Two rules keep this safe. Code of the user's may do anything to any connection, so state is
looked at again after every call of it. And nothing here calls code of the user's from inside a
call that the user made: what a send finds out (a lost peer, say) is told when that has returned.
"""

import logging

from fastws.exceptions import InvalidState, closed_exception
from fastws.log import report

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy
from posix.unistd cimport close

from fastws._deflate cimport deflating_free
from fastws._frames cimport WS_FIN, WS_HEADER_MAX, WS_PING, WS_PONG
from fastws._inbox cimport inbox_free
from fastws._outbox cimport outbox_append, outbox_free, outbox_new, outbox_overtake, outbox_pong, outbox_share

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

cdef enum:
    INVALID_DATA = 1007
    # So many bytes waiting are sent at once, not at the end of the turn.
    FLUSH_AT = 64 * 1024
    # The most that is read and thrown away so that a peer can get our last words.
    DISCARD_LIMIT = 1024 * 1024


cdef class Carrier:
    cdef int schedule(self, Endpoint endpoint) except -1:
        return 0

    cdef int flush(self, Endpoint endpoint) except -1:
        return 0

    cdef int resume(self, Endpoint endpoint) except -1:
        return 0

    cdef int finish(self, Endpoint endpoint) except -1:
        return 0

    cdef int drop(self, Endpoint endpoint) except -1:
        return 0

    cdef int set_deadline(self, Endpoint endpoint, Due due, double seconds) except -1:
        return 0

    cdef int raise_later(self, error) except -1:
        return 0

    cdef int watch_contexts(self) except -1:
        return 0

    cdef size_t unsent(self, Endpoint endpoint) except? 0:
        return 0

    cdef object address_of(self, Endpoint endpoint, bint peer):
        return None

    cdef double seconds(self):
        return 0


cdef class Extras:
    pass


cdef class Endpoint(Protocol):
    """What a connection is without its handler; see `Connection`."""

    def __cinit__(self):
        self.fd = -1
        self.phase = OPENING
        self.due = DUE_NOTHING
        self.outbox = NULL
        self.rest = NULL
        self.inbox = NULL
        self.subscriptions = NULL

    def __dealloc__(self):
        if self.outbox != NULL:
            outbox_free(self.outbox)
        inbox_free(self.inbox)
        PyMem_Free(self.rest)
        if self.fd >= 0 and not self.fd_is_borrowed:
            # The loop was closed under it, and everything let go.
            close(self.fd)
        if self.subscriptions != NULL:
            PyMem_Free(self.subscriptions.items)
            PyMem_Free(self.subscriptions)

    # ------------------------------------------------------------------ what a carrier reports

    cdef int bytes_received(self, uint8_t *data, Py_ssize_t size) except -1:
        if self.phase == RUNNING:
            return self.feed(data, size)
        if self.phase == OPENING:
            return self.opening_received(data[:size])
        self.discarded += <uint32_t>size
        if self.discarded > DISCARD_LIMIT:
            self.carrier.drop(self)
        return 0

    cdef int feed(self, uint8_t *data, Py_ssize_t size) except -1:
        cdef Py_ssize_t used
        try:
            used = self.receive(data, size)
            if used < size and self.phase == RUNNING:
                self.keep_rest(data + used, size - used)
        except MemoryError as error:
            self.crashed(error, None)
        return self.after_input()

    cdef int direct_bytes_received(self, size_t size) except -1:
        try:
            self.direct_received(size)
        except MemoryError as error:
            self.crashed(error, None)
        return self.after_input()

    cdef int keep_rest(self, const uint8_t *data, Py_ssize_t size) except -1:
        # A reactor receives nothing while there is a rest; a transport may have more before it pauses.
        cdef size_t left = self.rest_end - self.rest_start if self.rest != NULL else 0
        cdef uint8_t *rest = <uint8_t *>PyMem_Malloc(left + <size_t>size)
        if rest == NULL:
            raise MemoryError(f"no memory for {size} bytes of unparsed input")
        if left:
            memcpy(rest, self.rest + self.rest_start, left)
        memcpy(rest + left, data, <size_t>size)
        PyMem_Free(self.rest)
        self.rest = rest
        self.rest_start = 0
        self.rest_end = <uint32_t>(left + <size_t>size)
        return 0

    cdef int deliver_rest(self) except -1:
        """Go on with what could not be delivered; the carrier calls it before it receives again."""
        cdef uint8_t *rest = self.rest
        cdef Py_ssize_t used
        if rest == NULL or self.held or self.phase != RUNNING:
            return 0
        # It is not ours while handlers run, so that nothing they do can free it.
        self.rest = NULL
        try:
            used = self.receive(rest + self.rest_start, self.rest_end - self.rest_start)
            self.rest_start += used
        except MemoryError as error:
            self.crashed(error, None)
        if self.rest_start < self.rest_end and self.phase == RUNNING and not self.failed:
            self.rest = rest
        else:
            PyMem_Free(rest)
        return self.after_input()

    cdef int after_input(self) except -1:
        if self.phase == RUNNING and (self.failed or self.close_arrived):
            return self.over()
        return 0

    cdef int input_done(self) except -1:
        return 0

    cdef int end_received(self) except -1:
        """The peer has shut down its side."""
        if self.phase == RUNNING:
            # RFC 6455 7.1.5: no Close was received, so the close code is 1006.
            self.over()
        else:
            if self.phase == OPENING:
                self.opening_ended("left before the opening handshake was complete")
            self.carrier.drop(self)
        return 0

    cdef int encryption_failed(self, error) except -1:
        # One line: anybody can cause it.
        report(self.settings.logger, logging.DEBUG, "%s: TLS%s failed: %s", self.remote_address,
               "" if self.tls.ready else " handshake", error)
        return self.carrier.drop(self) if self.phase == LINGERING else self.over()

    cdef int deadline_reached(self) except -1:
        cdef uint8_t due = self.due
        self.due = DUE_NOTHING
        if due == DUE_KEEPALIVE:
            return self.keepalive()
        if due == DUE_OPENING:
            self.opening_ended("did not complete the opening handshake in time")
        return self.carrier.drop(self)

    cdef int output_left(self) except -1:
        """Everything that was queued has left, or enough of it for more."""
        cdef list waiters
        if not self.over_limit or (self.outbox != NULL and self.outbox.size > self.settings.write_limit):
            return 0
        self.over_limit = False
        if self.extras is not None and self.extras.drain_waiters is not None:
            waiters = self.extras.drain_waiters
            self.extras.drain_waiters = None
            wake_all(waiters, None)
        if self.phase == RUNNING:
            self.drained()
            self.after_input()
        return 0

    cdef int lost(self) except -1:
        """The descriptor is closed. Called with no code of the user's on the stack."""
        if self.extras is not None and self.extras.negotiation is not None:
            self.extras.negotiation.cancel()
        self.notify_closed()
        return self.released()

    cdef int released(self) except -1:
        # The last word: counts, and whoever waits for the end.
        cdef list waiters
        if self.extras is not None and self.extras.close_waiters is not None:
            waiters = self.extras.close_waiters
            self.extras.close_waiters = None
            wake_all(waiters, None)
        self.spare_receiver = None
        self.settings.on_idle()
        return 0

    # ------------------------------------------------------------------ the next layer

    cdef int opening_received(self, bytes data) except -1:
        return 0

    cdef int opening_ended(self, str why) except -1:
        return 0

    cdef Py_ssize_t header_received(self, bytes data) except -1:
        return 0

    cdef int turn_away(self) except -1:
        return 0

    cdef int drained(self) except -1:
        return 0

    cdef int leave_if_idle(self) except -1:
        return 0

    cdef int crashed(self, error, function) except -1:
        return 0

    cdef int connected(self) except -1:
        return 0

    cdef int queue_after_stream(self, bytes frame) except -1:
        return 0

    cdef int notify_closed(self) except -1:
        """The connection is over: tell those who wait for something else."""
        cdef list waiters
        if self.extras is None:
            return 0
        waiters = self.extras.drain_waiters
        self.extras.drain_waiters = None
        if waiters is not None:
            wake_all(waiters, self.closed_error())
        waiters = self.extras.pings
        self.extras.pings = None
        if waiters is not None:
            wake_all([ping[3] for ping in waiters if len(ping) > 3], self.closed_error())
        return 0

    # ------------------------------------------------------------------ output

    @cython.nonecheck(False)
    cdef int write(self, const uint8_t *header, unsigned header_size, const uint8_t *data, size_t size,
                   PyObject *owner) except -1:
        cdef uint8_t[WS_HEADER_MAX + 125] frame
        if self.blocked and header[0] & 0x0F >= WS_PING:
            # The peer does not read, so its outbox holds more than it takes: control frames
            # go ahead, and of Pongs only the newest is kept.
            if self.outbox == NULL:
                self.outbox = outbox_new()  # a transport has all that was sent, and wants no more
            memcpy(frame, header, header_size)
            memcpy(frame + header_size, data, size)
            if header[0] == 0x80 | WS_PONG:
                outbox_pong(self.outbox, frame, header_size + <unsigned>size)
                return 0
            return outbox_overtake(self.outbox, frame, header_size + <unsigned>size)
        return self.queue(header, header_size, data, size, owner, True)

    @cython.nonecheck(False)
    cdef int queue(self, const uint8_t *header, unsigned header_size, const uint8_t *data, size_t size,
                   PyObject *owner, bint copy) except -1:
        if self.phase == GONE:
            return 0
        if self.outbox == NULL:
            self.outbox = outbox_new()
        outbox_append(self.outbox, header, header_size, data, size, owner, copy, self.dirty)
        if not self.blocked:
            if self.outbox.size >= FLUSH_AT:
                self.carrier.flush(self)
            elif not self.dirty:
                self.carrier.schedule(self)
        return 0

    cdef int queue_shared(self, bytes run, const uint8_t *data, size_t size) except -1:
        if self.outbox == NULL:
            self.outbox = outbox_new()
        outbox_share(self.outbox, run, data, size)
        if self.outbox.size >= FLUSH_AT:
            return self.carrier.flush(self)
        return 0 if self.dirty else self.carrier.schedule(self)

    cdef int queue_bytes(self, bytes data) except -1:
        return self.queue(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(data), <size_t>len(data),
                          <PyObject *>data, True)

    cdef int drop_overfull(self) except -1:
        report(self.settings.logger, logging.WARNING, "%s dropped: it does not read, %d bytes wait for it",
               self.remote_address, self.outbox.size)
        return self.carrier.drop(self)

    # ------------------------------------------------------------------ life

    cdef int started(self) except -1:
        """The opening handshake is complete: bytes are frames from here on."""
        self.phase = RUNNING
        self.settings.opening_count -= 1
        self.settings.open_count += 1
        if self.settings.ping_interval >= 0:
            # A random phase: connections that came together are not pinged together.
            return self.carrier.set_deadline(self, DUE_KEEPALIVE,
                                             self.settings.ping_interval * random_fraction())
        return self.carrier.set_deadline(self, DUE_NOTHING, -1)

    cdef int begin_close(self, code, str reason) except -1:
        """Start the closing handshake, if it has not begun, and bound its time."""
        if self.phase != RUNNING or self.close_queued:
            return 0
        self.send_close(code, reason)
        self.carrier.set_deadline(self, DUE_CLOSING, self.settings.close_timeout)
        if self.held:
            self.hold()
            self.carrier.resume(self)
        return 0

    cdef int fail_decoding(self) except -1:
        if self.phase == RUNNING:
            self.fail(INVALID_DATA, "a message that was to be text is not valid UTF-8")
            return self.after_input()
        return 0

    cdef int keepalive(self) except -1:
        """Send the Ping that is due, or judge what became of the last."""
        cdef int64_t now = self.carrier.now
        cdef double interval = self.settings.ping_interval
        cdef double timeout = self.settings.ping_timeout
        cdef double waited
        cdef bytes payload
        if self.phase != RUNNING or self.close_queued:
            return 0
        if self.pinged_at:
            waited = (now - self.pinged_at) * 1e-9
            if self.received_at >= self.pinged_at or timeout < 0:
                # Any byte proves life.
                self.pinged_at = 0
                if waited < interval:
                    return self.carrier.set_deadline(self, DUE_KEEPALIVE, interval - waited)
            elif self.held:
                # We do not read, so that we cannot know.
                self.pinged_at = now
                return self.carrier.set_deadline(self, DUE_KEEPALIVE, timeout)
            elif waited < timeout:
                return self.carrier.set_deadline(self, DUE_KEEPALIVE, timeout - waited)
            else:
                report(self.settings.logger, logging.DEBUG, "%s dropped: no answer to a ping in %s s",
                       self.remote_address, timeout)
                return self.carrier.drop(self)
        self.ping_number += 1
        self.pinged_at = now
        payload = keepalive_payload(self)
        self.send_frame(WS_FIN | WS_PING, payload, <size_t>len(payload), <PyObject *>payload)
        return self.carrier.set_deadline(self, DUE_KEEPALIVE,
                                         interval if timeout < 0 or interval < timeout else timeout)

    cdef int keepalive_answered(self, bytes payload) except -1:
        if self.pinged_at and payload == keepalive_payload(self):
            self.latency = (self.carrier.now - self.pinged_at) * 1e-9
        return 0

    cdef int hold(self) except -1:
        # After our Close nothing is delivered, and the peer's has to be found.
        self.held = self.phase == GONE or (
            (self.busy or self.paused or self.starting or self.full) and not self.close_queued)
        return 0

    cdef int go_on(self) except -1:
        """A reason to hold delivery is gone: deliver again, unless there is another."""
        self.hold()
        return 0 if self.held else self.carrier.resume(self)

    cdef int item_taken(self) except -1:
        """An item was taken from the inbox: there may be room again."""
        if not self.full or self.inbox.count > self.settings.low_water:
            return 0
        self.full = False
        return self.go_on()

    cdef int over(self) except -1:
        """No frame will be parsed any more: end the TCP connection, and tell the handler."""
        if self.phase >= LINGERING:
            return 0
        if self.phase == OPENING:
            self.settings.opening_count -= 1
            self.settings.open_count += 1
        self.phase = LINGERING
        self.end_compression()
        PyMem_Free(self.rest)
        self.rest = NULL
        self.paused = False
        self.carrier.finish(self)
        return self.notify_closed()

    cdef int end_compression(self) except -1:
        """Nothing more will be parsed, nor sent by this connection: give back the contexts."""
        deflating_free(self.deflating)
        self.deflating = NULL
        return 0

    cdef int check_thread(self) except -1:
        if self.carrier is not None and PyThread_get_thread_ident() != self.carrier.thread:
            raise RuntimeError("a connection belongs to its event loop's thread: use loop.call_soon_threadsafe")
        return 0

    cdef Extras more(self):
        if self.extras is None:
            self.extras = Extras()
        return self.extras

    cdef object closed_error(self):
        if self.phase == OPENING:
            return InvalidState("the opening handshake is not complete")
        return closed_exception(self.close_received, self.close_sent, self.peer_closed_first)

    cdef object drain_future(self):
        """Return a future for "no more than write_limit waits"; None when it is so."""
        if self.phase != RUNNING:
            raise self.closed_error()
        if self.outbox == NULL or self.outbox.size <= self.settings.write_limit:
            return None
        self.over_limit = True
        future = self.carrier.loop.create_future()
        extras = self.more()
        if extras.drain_waiters is None:
            extras.drain_waiters = []
        extras.drain_waiters.append(future)
        return future

    cdef object close_future(self):
        """Return a future for the end of the connection; None when it is over."""
        if self.phase == GONE:
            return None
        future = self.carrier.loop.create_future()
        extras = self.more()
        if extras.close_waiters is None:
            extras.close_waiters = []
        extras.close_waiters.append(future)
        return future


cdef int wake_all(list waiters, error) except -1:
    for future in waiters:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # nobody has to look at it
    return 0


cdef bytes keepalive_payload(Endpoint self):
    return int(self.ping_number).to_bytes(4, "big")


cdef uint32_t random_state = 0x9E3779B9


cdef double random_fraction():
    # xorshift; it spreads pings in time and guards nothing.
    global random_state
    random_state ^= (random_state << 13) & 0xFFFFFFFF
    random_state ^= random_state >> 17
    random_state ^= (random_state << 5) & 0xFFFFFFFF
    return random_state / 4294967296.0
