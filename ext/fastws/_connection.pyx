"""Connections: what a handler holds, and what ties protocol, handler and carrier together.

In: bytes and events from a carrier (the reactor), calls from handlers. Out: calls of handler
functions, and frames in the outbox, which the carrier sends. RFC 6455 4.2, 5.5 and 7.

Two rules keep this safe. Code of the user's may do anything to any connection, so state is
looked at again after every call of it. And nothing here calls code of the user's from inside a
call that the user made: what a send finds out (a lost peer, say) is told when that has returned.
"""

import asyncio
import logging
import uuid

from fastws.codes import State
from fastws.exceptions import ConnectionClosed, InvalidState, closed_exception
from fastws.handshake import Rejected, ServerHandshake, rejection
from fastws.log import report

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastws._frames cimport WS_CONTROL_MAX, WS_HEADER_MAX, WS_PING, WS_PONG, WS_TEXT, ws_header_encode
from fastws._messages cimport Payload, encode_message, valid_text
from fastws._outbox cimport outbox_append, outbox_free, outbox_new, outbox_overtake, outbox_pong

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyObject_Vectorcall(object function, PyObject **args, size_t count, PyObject *names)
    bint PyCoro_CheckExact(object)

cdef enum:
    INTERNAL_ERROR = 1011
    GOING_AWAY = 1001
    ABNORMAL = 1006
    # So many bytes waiting are sent at once, not at the end of the turn.
    FLUSH_AT = 64 * 1024
    # The most that is read and thrown away so that a peer can get our last words.
    DISCARD_LIMIT = 1024 * 1024
    # What an awaitable waits for.
    DRAINED = 1
    CLOSED = 2


cdef class Callbacks:
    """
    A handler's functions, looked up once.

    Args:
        functions: by name; absent ones are never called.
        bound: the functions take the handler as their first argument.
    """

    def __init__(self, dict functions, bint bound):
        self.on_open = functions.get("on_open")
        self.on_message = functions.get("on_message")
        self.on_close = functions.get("on_close")
        self.on_ping = functions.get("on_ping")
        self.on_pong = functions.get("on_pong")
        self.on_drain = functions.get("on_drain")
        self.on_error = functions.get("on_error")
        self.bound = bound


cdef double seconds(value):
    return -1.0 if value is None else value


cdef class Settings:
    """
    What all connections of one server share.

    Args: times in seconds and sizes in bytes, None switching a limit off; see `fastws.serve`.
    """

    def __init__(self, *, server, policy, make_handler, negotiate, logger, max_size, text_as, write_limit,
                 write_cap, open_timeout, ping_interval, ping_timeout, close_timeout, max_connections,
                 max_opening, on_idle):
        self.server = server
        self.policy = policy
        self.make_handler = make_handler
        self.negotiate = negotiate
        self.logger = logger
        self.max_size = <uint64_t>-1 if max_size is None else max_size
        self.text_as_bytes = text_as == "bytes"
        self.write_limit = <size_t>-1 if write_limit is None else write_limit
        self.write_cap = <size_t>-1 if write_cap is None else write_cap
        self.open_timeout = seconds(open_timeout)
        self.ping_interval = seconds(ping_interval)
        self.ping_timeout = seconds(ping_timeout)
        self.close_timeout = seconds(close_timeout)
        self.max_connections = max_connections
        self.max_opening = max_opening
        self.on_idle = on_idle
        self.tasks = set()

    @property
    def max_size(self):
        """Bytes of a message; None: no limit."""
        return None if self.max_size == <uint64_t>-1 else self.max_size

    @property
    def max_connections(self):
        """How many connections may be open."""
        return self.max_connections


cdef class Carrier:
    cdef int schedule(self, Connection connection) except -1:
        return 0

    cdef int flush(self, Connection connection) except -1:
        return 0

    cdef int resume(self, Connection connection) except -1:
        return 0

    cdef int finish(self, Connection connection) except -1:
        return 0

    cdef int drop(self, Connection connection) except -1:
        return 0

    cdef int set_deadline(self, Connection connection, Due due, double seconds) except -1:
        return 0

    cdef int raise_later(self, error) except -1:
        return 0

    cdef object address_of(self, Connection connection, bint peer):
        return None

    cdef double seconds(self):
        return 0


cdef class Extras:
    pass


@cython.final
cdef class Sent:
    """What `send` returns when there is nothing to wait for."""

    def __await__(self):
        return iter(())

    def __repr__(self):
        return "<nothing to wait for>"


cdef Sent SENT = Sent()


@cython.final
cdef class Waiting:
    """What `send` and `close` return when there is something to wait for; a wait begins with `await`."""
    cdef Connection connection
    cdef int kind

    def __await__(self):
        future = self.connection.wait_for(self.kind)
        return iter(()) if future is None else future.__await__()


cdef Waiting waiting(Connection connection, int kind):
    cdef Waiting result = Waiting.__new__(Waiting)
    result.connection = connection
    result.kind = kind
    return result


@cython.final
cdef class Pinged:
    """What `ping` returns: `await` it for a future, and that for the latency in seconds."""
    cdef Connection connection
    cdef list ping

    def __await__(self):
        return self.wait().__await__()

    async def wait(self):
        future = self.connection.carrier.loop.create_future()
        if self.ping[2] is not None:
            future.set_result(self.ping[2])
        elif self.connection.phase != RUNNING:
            raise self.connection.closed_error()
        elif len(self.ping) > 3:
            return self.ping[3]
        else:
            self.ping.append(future)
        return future


@cython.final
cdef class Connection(Protocol):
    """
    A WebSocket connection, as handlers get it.

    Hashable, weakly referenceable, and open to attributes of your own (`ws.user = ...`).
    Its methods may be called from the thread of its event loop only.
    """

    def __cinit__(self):
        self.fd = -1
        self.phase = OPENING
        self.due = DUE_NOTHING
        self.outbox = NULL
        self.rest = NULL

    def __dealloc__(self):
        if self.outbox != NULL:
            outbox_free(self.outbox)
        PyMem_Free(self.rest)

    # ------------------------------------------------------------------ for handlers: output

    @cython.nonecheck(False)
    def send(self, message, *, text=None):
        """
        Queue a message; it leaves at the end of the event loop's turn, RFC 6455 6.1.

        Args:
            message: str is sent as text, bytes and any other contiguous buffer as binary.
                A buffer that may change is copied.
            text: True sends bytes, which must be UTF-8, as text; False sends a str as binary.

        Returns: an awaitable. Callbacks ignore it; a coroutine that awaits it is held while
            more than `write_limit` bytes wait for this peer.

        Raises:
            ConnectionClosed: the connection is closed or closing; nothing was sent.
            TypeError: `message` is no str and no contiguous buffer.
            UnicodeError: the text has no UTF-8 form.
            RuntimeError: called from a thread other than the event loop's.
        """
        cdef Payload payload
        cdef object owner
        if PyThread_get_thread_ident() != self.carrier.thread:
            self.check_thread()
        if self.phase != RUNNING or self.close_queued:
            raise self.closed_error()
        owner = encode_message(message, text, &payload)
        if self.outbox != NULL and self.outbox.size > self.settings.write_cap:
            self.drop_overfull()
            raise self.closed_error()
        self.send_frame(payload.opcode, payload.data, payload.size, <PyObject *>owner)
        return self.after_send()

    def ping(self, data=None):
        """
        Send a Ping, RFC 6455 5.5.2.

        Args:
            data: str or bytes, at most 125 bytes; None is 4 bytes of our choice.

        Returns: an awaitable that gives a future that gives the latency in seconds:
            `latency = await (await ws.ping())`.

        Raises: ConnectionClosed, ValueError for longer data.
        """
        cdef bytes payload
        cdef Pinged result
        cdef list ping
        self.check_thread()
        if self.phase != RUNNING or self.close_queued:
            raise self.closed_error()
        if data is None:
            self.ping_number += 1
            payload = int(self.ping_number).to_bytes(4, "big")
        else:
            payload = control_payload(data)
        ping = [payload, self.carrier.seconds(), None]
        extras = self.more()
        if extras.pings is None:
            extras.pings = []
        extras.pings.append(ping)
        self.send_frame(WS_PING, payload, <size_t>len(payload), <PyObject *>payload)
        result = Pinged.__new__(Pinged)
        result.connection = self
        result.ping = ping
        return result

    def pong(self, data=b""):
        """
        Send an unsolicited Pong, RFC 6455 5.5.3; Pings of the peer's are answered without it.

        Args:
            data: str or bytes, at most 125 bytes.

        Returns: an awaitable, as `send` does.
        Raises: ConnectionClosed, ValueError for longer data.
        """
        cdef bytes payload = control_payload(data)
        self.check_thread()
        if self.phase != RUNNING or self.close_queued:
            raise self.closed_error()
        self.send_frame(WS_PONG, payload, <size_t>len(payload), <PyObject *>payload)
        return self.after_send()

    def close(self, code=1000, reason=""):
        """
        Begin the closing handshake, RFC 6455 7.1.2; what was sent before leaves first.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999; None sends a Close frame without one.
            reason: at most 123 bytes of UTF-8.

        Returns: an awaitable that ends when the connection is closed, which the peer can delay
            by `close_timeout` at most. Callbacks ignore it.

        Raises: ValueError for a code or reason that must not be sent; then nothing was.
        """
        self.check_thread()
        if self.phase == OPENING:
            raise InvalidState("the opening handshake is not complete")
        if self.phase == RUNNING and not self.close_queued:
            self.send_close(code, reason)
            self.carrier.set_deadline(self, DUE_CLOSING, self.settings.close_timeout)
            if self.held:
                self.hold()
                self.carrier.resume(self)
        return waiting(self, CLOSED)

    def wait_closed(self):
        """Return an awaitable that ends when the connection is closed."""
        return waiting(self, CLOSED)

    def flush(self):
        """Send what is queued now, as far as the peer takes it, not at the end of the turn."""
        self.check_thread()
        if self.outbox != NULL and not self.blocked:
            self.carrier.flush(self)

    @property
    def buffered_amount(self):
        """Bytes that are queued and have not left for this peer."""
        return 0 if self.outbox == NULL else self.outbox.size

    # ------------------------------------------------------------------ for handlers: input

    def pause_reading(self):
        """Deliver nothing more, and stop receiving, until `resume_reading`; the peer will notice."""
        self.check_thread()
        self.paused = True
        self.hold()

    def resume_reading(self):
        """Undo `pause_reading`."""
        self.check_thread()
        if self.paused:
            self.paused = False
            self.hold()
            if not self.held:
                self.carrier.resume(self)

    @property
    def message_is_text(self):
        """Whether the message delivered last was text; with `text_as="bytes"` its type does not tell."""
        return self.last_opcode == WS_TEXT

    # ------------------------------------------------------------------ for handlers: facts

    @property
    def state(self):
        """The connection's `State`, RFC 6455 4.1 and 7.1."""
        if self.phase == OPENING:
            return State.CONNECTING
        if self.phase == RUNNING:
            return State.CLOSING if self.close_queued else State.OPEN
        return State.CLOSING if self.phase == LINGERING else State.CLOSED

    @property
    def close_code(self):
        """_The WebSocket Connection Close Code_, RFC 6455 7.1.5: the peer's, 1005 if its Close has
        none, 1006 if there was no Close, None while the connection is not closed."""
        if self.phase < LINGERING:
            return None
        return ABNORMAL if self.close_received is None else self.close_received[0]

    @property
    def close_reason(self):
        """The peer's reason, RFC 6455 7.1.6; "" if there is none, None while not closed."""
        if self.phase < LINGERING:
            return None
        return "" if self.close_received is None else self.close_received[1]

    @property
    def request(self):
        """The `Request` that opened the connection."""
        if isinstance(self.head, bytes):
            from fastws.http11 import Request
            self.head = Request.parse(self.head)
        if self.head is None and self.opening is not None:
            return self.opening.request
        return self.head

    @property
    def remote_address(self):
        """The peer's address: (host, port), four items for IPv6, "" for a Unix socket."""
        return self.carrier.address_of(self, True)

    @property
    def local_address(self):
        """Our address of this connection; None once the descriptor is closed."""
        return self.carrier.address_of(self, False)

    @property
    def id(self):
        """A UUID of this connection's own, for logs."""
        cdef Extras extras = self.more()
        if extras.id is None:
            extras.id = uuid.uuid4()
        return extras.id

    @property
    def server(self):
        """The `Server` that accepted the connection."""
        return self.settings.server

    @property
    def logger(self):
        """The server's logger."""
        return self.settings.logger

    def get_extra_info(self, name, default=None):
        """Return "peername", "sockname" or "socket_fd"; `default` for another name."""
        if name == "peername":
            return self.remote_address
        if name == "sockname":
            return self.local_address
        if name == "socket_fd" and self.fd >= 0:
            return self.fd
        return default

    def respond(self, status, text):
        """
        Make a plain text `Response`, for `process_request` to return.

        Args:
            status: the HTTP status code.
            text: the body.
        """
        return rejection(status, text)

    def __repr__(self):
        return f"<fastws.Connection {self.remote_address} {self.state.name}>"

    # ------------------------------------------------------------------ opening handshake

    cdef int opening_received(self, bytes data) except -1:
        cdef object handshake = self.opening
        if handshake is None:
            handshake = self.opening = ServerHandshake(self.settings.policy)
        try:
            if not handshake.receive_data(data):
                return 0
            if self.settings.negotiate is None:
                return self.open_now(handshake.accept_bytes(self))
            result = self.settings.negotiate(self, handshake)
            if asyncio.iscoroutine(result):
                self.busy = True
                self.hold()
                task = self.carrier.loop.create_task(result)
                self.more().negotiation = task
                self.settings.tasks.add(task)
                task.add_done_callback(self.negotiation_done)
                return 0
            return self.negotiated(result)
        except Rejected as error:
            report(self.settings.logger, logging.DEBUG, "opening handshake of %s rejected: %s",
                   self.remote_address, error)
            return self.reject(error.response)
        except Exception as error:
            report(self.settings.logger, logging.ERROR, "opening handshake failed", error=error)
            return self.reject(rejection(500, "Failed to open a WebSocket connection."))
        except BaseException as error:
            self.carrier.raise_later(error)
            return self.reject(rejection(500, "Failed to open a WebSocket connection."))

    def negotiation_done(self, task):
        """Internal: the task of an asynchronous `process_request` has ended."""
        self.settings.tasks.discard(task)
        self.more().negotiation = None
        self.busy = False
        self.hold()
        if self.phase == OPENING:
            if task.cancelled():
                self.reject(rejection(503, "The server is shutting down."))
            elif task.exception() is not None:
                report(self.settings.logger, logging.ERROR, "opening handshake failed", error=task.exception())
                self.reject(rejection(500, "Failed to open a WebSocket connection."))
            else:
                try:
                    self.negotiated(task.result())
                except Exception as error:
                    report(self.settings.logger, logging.ERROR, "opening handshake failed", error=error)
                    self.reject(rejection(500, "Failed to open a WebSocket connection."))
            self.carrier.resume(self)
        elif not task.cancelled():
            task.exception()  # seen; there is nobody left to tell
        self.settings.on_idle()

    cdef int negotiated(self, response) except -1:
        if response.status_code == 101:
            return self.open_now(self.opening.serialize(response))
        return self.reject(response)

    cdef int open_now(self, bytes reply) except -1:
        """The opening handshake is complete: `reply` goes out, and frames may come."""
        cdef object handshake = self.opening
        cdef bytes rest
        cdef bytearray copy
        try:
            self.handler, self.callbacks = self.settings.make_handler()
        except Exception as error:
            report(self.settings.logger, logging.ERROR, "making a handler failed", error=error)
            return self.reject(rejection(500, "Failed to open a WebSocket connection."))
        self.head = handshake.head
        self.subprotocol = handshake.subprotocol
        rest = handshake.rest
        self.opening = None
        self.queue(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(reply), <size_t>len(reply), <PyObject *>reply, True)
        self.phase = RUNNING
        self.settings.opening_count -= 1
        self.settings.open_count += 1
        if self.settings.ping_interval >= 0:
            # A random phase: connections that came together are not pinged together.
            self.carrier.set_deadline(self, DUE_KEEPALIVE, self.settings.ping_interval * random_fraction())
        else:
            self.carrier.set_deadline(self, DUE_NOTHING, -1)
        if self.callbacks.on_open is not None:
            self.call(self.callbacks.on_open, NULL, NULL, False)
        if rest and self.phase == RUNNING:
            copy = bytearray(rest)
            self.feed(<uint8_t *><char *>copy, len(copy))
        else:
            self.after_input()
        return 0

    cdef int reject(self, response) except -1:
        """Answer an HTTP response and close."""
        cdef bytes reply
        if self.opening is None:
            reply = response.serialize()
        else:
            try:
                reply = self.opening.serialize(response)
            except ValueError as error:
                # A hook made a response that cannot be sent.
                report(self.settings.logger, logging.ERROR, "opening handshake failed", error=error)
                reply = self.opening.serialize(rejection(500, "Failed to open a WebSocket connection."))
        self.queue(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(reply), <size_t>len(reply), <PyObject *>reply, True)
        self.opening = None
        return self.over()

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
        # Nothing is received while there is a rest, so that there is at most one.
        self.rest = <uint8_t *>PyMem_Malloc(<size_t>size)
        if self.rest == NULL:
            raise MemoryError(f"no memory for {size} bytes of unparsed input")
        memcpy(self.rest, data, <size_t>size)
        self.rest_start = 0
        self.rest_end = size
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

    cdef int end_received(self) except -1:
        """The peer has shut down its side."""
        if self.phase == RUNNING:
            # RFC 6455 7.1.5: no Close was received, so the close code is 1006.
            self.over()
        elif self.phase == OPENING:
            report(self.settings.logger, logging.DEBUG, "%s left before the opening handshake was complete",
                   self.remote_address)
            self.carrier.drop(self)
        else:
            self.carrier.drop(self)
        return 0

    cdef int deadline_reached(self) except -1:
        cdef uint8_t due = self.due
        self.due = DUE_NOTHING
        if due == DUE_KEEPALIVE:
            return self.keepalive()
        if due == DUE_OPENING:
            report(self.settings.logger, logging.DEBUG, "%s did not complete the opening handshake in %s s",
                   self.remote_address, self.settings.open_timeout)
            if self.extras is not None and self.extras.negotiation is not None:
                self.extras.negotiation.cancel()
        self.carrier.drop(self)
        return 0

    cdef int output_left(self) except -1:
        """Everything that was queued has left, or enough of it for more."""
        cdef Extras extras
        if not self.over_limit or (self.outbox != NULL and self.outbox.size > self.settings.write_limit):
            return 0
        self.over_limit = False
        extras = self.extras
        if extras is not None and extras.drain_waiters is not None:
            waiters = extras.drain_waiters
            extras.drain_waiters = None
            for future in waiters:
                if not future.done():
                    future.set_result(None)
        if self.phase == RUNNING and self.callbacks.on_drain is not None:
            self.call(self.callbacks.on_drain, NULL, NULL, False)
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
        cdef Extras extras = self.extras
        if extras is not None and extras.close_waiters is not None:
            waiters = extras.close_waiters
            extras.close_waiters = None
            for future in waiters:
                if not future.done():
                    future.set_result(None)
        self.settings.on_idle()
        return 0

    # ------------------------------------------------------------------ protocol events

    @cython.nonecheck(False)
    cdef int on_message(self, object message) except -1:
        global valid_text
        if self.callbacks.on_message is None:
            return 0
        if not self.text_as_bytes or self.last_opcode != WS_TEXT:
            return self.call(self.callbacks.on_message, <PyObject *>message, NULL, False)
        valid_text = <PyObject *>message
        try:
            return self.call(self.callbacks.on_message, <PyObject *>message, NULL, False)
        finally:
            valid_text = NULL

    cdef int on_ping(self, bytes payload) except -1:
        if self.callbacks.on_ping is not None and not self.close_queued:
            return self.call(self.callbacks.on_ping, <PyObject *>payload, NULL, False)
        return 0

    cdef int on_pong(self, bytes payload) except -1:
        cdef list ping, pings
        cdef int i
        if self.pinged_at and payload == keepalive_payload(self):
            self.latency = (self.carrier.now - self.pinged_at) * 1e-9
        pings = None if self.extras is None else self.extras.pings
        if pings is not None:
            for i in range(len(pings)):
                if pings[i][0] == payload:
                    # RFC 6455 5.5.3: a Pong may answer the most recent Ping only, so that it
                    # answers all those before, too.
                    now = self.carrier.seconds()
                    for ping in pings[:i + 1]:
                        ping[2] = now - ping[1]
                        if len(ping) > 3 and not ping[3].done():
                            ping[3].set_result(ping[2])
                    self.latency = pings[i][2]
                    del pings[:i + 1]
                    break
        if self.callbacks.on_pong is not None and not self.close_queued:
            return self.call(self.callbacks.on_pong, <PyObject *>payload, NULL, False)
        return 0

    # ------------------------------------------------------------------ handlers

    @cython.nonecheck(False)
    cdef int call(self, object function, PyObject *first, PyObject *second, bint closing) except -1:
        """
        Call a handler function with this connection and up to two arguments.

        What it raises costs this connection 1011; a coroutine that it returns becomes a task,
        and delivery is held until that has ended.
        """
        cdef PyObject *args[5]
        cdef size_t count = 1 + (first != NULL) + (second != NULL)
        cdef object result
        args[1] = <PyObject *>self.handler
        args[2] = <PyObject *>self
        args[3] = first
        args[4] = second
        try:
            if self.callbacks.bound:
                result = PyObject_Vectorcall(function, &args[1], (count + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
            else:
                result = PyObject_Vectorcall(function, &args[2], count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
            if result is not None and result is not SENT and type(result) is not Waiting:
                if PyCoro_CheckExact(result) or asyncio.iscoroutine(result):
                    self.start_task(result, function, closing)
        except BaseException as error:
            self.crashed(error, function)
        return 0

    cdef int start_task(self, coroutine, function, bint closing) except -1:
        task = self.carrier.loop.create_task(coroutine)
        self.settings.tasks.add(task)
        self.more().task = task
        self.busy = True
        self.hold()
        task.add_done_callback(self.task_done)
        return 0

    def task_done(self, task):
        """Internal: the task of an `async def` callback has ended."""
        self.settings.tasks.discard(task)
        self.extras.task = None
        self.busy = False
        self.hold()
        if task.cancelled():
            if self.phase == RUNNING:
                self.send_close(GOING_AWAY, "")
                self.carrier.set_deadline(self, DUE_CLOSING, self.settings.close_timeout)
        elif task.exception() is not None:
            error = task.exception()
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                # The task has raised it out of the loop.
                self.fail_internally()
            else:
                self.crashed(error, task.get_coro())
            self.after_input()
        if self.closed_due:
            self.closed_due = False
            self.notify_closed()
        elif not self.held:
            self.carrier.resume(self)
        self.settings.on_idle()

    cdef int crashed(self, error, function) except -1:
        """A handler raised `error`: that costs its connection 1011 and one log record."""
        cdef object on_error = None if self.callbacks is None else self.callbacks.on_error
        if isinstance(error, ConnectionClosed):
            # Its own connection is closed, or another's is, which is no fault of this one.
            report(self.settings.logger, logging.DEBUG, "handler stopped by %r", error)
            return 0
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            self.carrier.raise_later(error)
        elif on_error is not None and function is not on_error:
            self.call(on_error, <PyObject *>error, NULL, False)
        else:
            report(self.settings.logger, logging.ERROR, "connection handler failed", error=error)
        return self.fail_internally()

    cdef int fail_internally(self) except -1:
        if self.phase == RUNNING:
            self.fail(INTERNAL_ERROR, "internal error")
        return 0

    # ------------------------------------------------------------------ output

    @cython.nonecheck(False)
    cdef int write(self, const uint8_t *header, unsigned header_size, const uint8_t *data, size_t size,
                   PyObject *owner) except -1:
        cdef uint8_t[WS_HEADER_MAX + 125] frame
        if self.blocked and header[0] >= 0x80 | WS_PING:
            # The peer does not read, so its outbox holds more than it takes: control frames
            # go ahead, and of Pongs only the newest is kept.
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

    cdef object after_send(self):
        if self.outbox == NULL or self.outbox.size <= self.settings.write_limit:
            return SENT
        self.over_limit = True
        return waiting(self, DRAINED)

    cdef int drop_overfull(self) except -1:
        report(self.settings.logger, logging.WARNING, "%s dropped: it does not read, %d bytes wait for it",
               self.remote_address, self.outbox.size)
        return self.carrier.drop(self)

    # ------------------------------------------------------------------ life

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
        self.send_frame(WS_PING, payload, <size_t>len(payload), <PyObject *>payload)
        return self.carrier.set_deadline(self, DUE_KEEPALIVE,
                                         interval if timeout < 0 or interval < timeout else timeout)

    cdef int hold(self) except -1:
        # After our Close nothing is delivered, and the peer's has to be found.
        self.held = (self.busy or self.paused) and not self.close_queued
        return 0

    cdef int over(self) except -1:
        """No frame will be parsed any more: end the TCP connection, and tell the handler."""
        if self.phase >= LINGERING:
            return 0
        if self.phase == OPENING:
            self.settings.opening_count -= 1
            self.settings.open_count += 1
        self.phase = LINGERING
        PyMem_Free(self.rest)
        self.rest = NULL
        self.paused = False
        self.carrier.finish(self)
        return self.notify_closed()

    cdef int notify_closed(self) except -1:
        """Call on_close, once, and after everything that was delivered before."""
        cdef Extras extras = self.extras
        cdef list ping
        if self.closed_done:
            return 0
        if extras is not None:
            waiters = extras.drain_waiters
            extras.drain_waiters = None
            for future in waiters or ():
                if not future.done():
                    future.set_exception(self.closed_error())
            for ping in extras.pings or ():
                if len(ping) > 3 and not ping[3].done():
                    ping[3].set_exception(self.closed_error())
                    ping[3].exception()  # nobody has to look at it
            extras.pings = None
        if self.callbacks is None:
            return 0
        if self.busy:
            self.closed_due = True
            return 0
        self.closed_done = True
        if self.callbacks.on_close is not None:
            code = self.close_code
            reason = self.close_reason
            self.call(self.callbacks.on_close, <PyObject *>code, <PyObject *>reason, True)
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

    cdef object wait_for(self, int kind):
        """Return a future for what an awaitable waits for; None when it is so already."""
        cdef Extras extras
        if kind == CLOSED:
            if self.phase == GONE:
                return None
            extras = self.more()
            future = self.carrier.loop.create_future()
            if extras.close_waiters is None:
                extras.close_waiters = []
            extras.close_waiters.append(future)
            return future
        if self.phase != RUNNING:
            raise self.closed_error()
        if self.outbox == NULL or self.outbox.size <= self.settings.write_limit:
            return None
        extras = self.more()
        future = self.carrier.loop.create_future()
        if extras.drain_waiters is None:
            extras.drain_waiters = []
        extras.drain_waiters.append(future)
        return future

    def shut_down(self, code=1001, reason=""):
        """Internal: the server closes. End the closing handshake, or what there is of the opening."""
        if self.phase == OPENING:
            if self.extras is not None and self.extras.negotiation is not None:
                self.extras.negotiation.cancel()
            else:
                self.reject(rejection(503, "The server is shutting down."))
        elif self.phase == RUNNING:
            self.close(code, reason)

    cdef int turn_away(self) except -1:
        """There are too many connections: say so, and close."""
        report(self.settings.logger, logging.WARNING, "%s turned away: %d connections, %d opening handshakes",
               self.remote_address, self.settings.open_count, self.settings.opening_count)
        return self.reject(rejection(503, "Too many connections.", [("Retry-After", "5")]))

    def abort(self):
        """Close the TCP connection now, with no closing handshake."""
        self.check_thread()
        self.carrier.drop(self)


cdef bytes keepalive_payload(Connection self):
    return int(self.ping_number).to_bytes(4, "big")


cdef bytes control_payload(data):
    cdef bytes payload = data.encode() if isinstance(data, str) else bytes(data)
    if len(payload) > WS_CONTROL_MAX:
        raise ValueError(f"control frame payload is {len(payload)} bytes, limit is {WS_CONTROL_MAX}")
    return payload


cdef uint32_t random_state = 0x9E3779B9


cdef double random_fraction():
    # xorshift; it spreads pings in time and guards nothing.
    global random_state
    random_state ^= (random_state << 13) & 0xFFFFFFFF
    random_state ^= random_state >> 17
    random_state ^= (random_state << 5) & 0xFFFFFFFF
    return random_state / 4294967296.0


def broadcast(connections, message, *, text=None):
    """
    Send one message to many connections; it is encoded once.

    Connections that are closed, closing, or that have to be dropped because more than
    `write_cap` bytes wait for them, are passed over.

    Args:
        connections: an iterable of connections.
        message, text: as `Connection.send` takes them.

    Returns: the number of connections that the message was queued for.
    Raises: TypeError and UnicodeError, as `send` does; then nothing was sent.
    """
    cdef Payload payload
    cdef uint8_t[WS_HEADER_MAX] header
    cdef unsigned header_size
    cdef Connection connection
    cdef bytes frame
    cdef Py_ssize_t count = 0
    cdef object owner = encode_message(message, text, &payload)  # no-cython-lint: it keeps payload alive
    header_size = ws_header_encode(header, 0x80 | payload.opcode, payload.size)
    frame = header[:header_size] + payload.data[:payload.size]
    for connection in connections:
        if connection.phase != RUNNING or connection.close_queued:
            continue
        if PyThread_get_thread_ident() != connection.carrier.thread:
            connection.check_thread()
        if connection.outbox != NULL and connection.outbox.size > connection.settings.write_cap:
            connection.drop_overfull()
            continue
        # A peer that reads gets a copy, which is gone in a moment; for one that does not, the
        # frame is kept once, however many of them there are.
        connection.queue(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(frame), <size_t>PyBytes_GET_SIZE(frame),
                         <PyObject *>frame, not connection.blocked)
        connection.over_limit = connection.over_limit or (
            connection.outbox != NULL and connection.outbox.size > connection.settings.write_limit)
        count += 1
    return count
