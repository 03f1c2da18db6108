"""Sending: messages, whole or in fragments, control frames and the closing handshake, for one or many.

In: calls from handlers. Out: frames, and awaitables for coroutines. RFC 6455 5.4, 5.5, 6.1 and 7.1.2.
"""

from fastws.exceptions import ConcurrencyError, InvalidState
from fastws.streaming import fragments_of, is_streamable

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._awaitables cimport CLOSED, DRAINED, READY, failing, pinged, waiting
from fastws._deflate cimport WS_RSV1, forget_output, is_worth
from fastws._endpoint cimport OPENING, RUNNING, Extras, wake_all
from fastws._fanout cimport Frames
from fastws._frames cimport WS_CONT, WS_CONTROL_MAX, WS_FIN, WS_PING, WS_PONG, WS_TEXT, encode_close
from fastws._messages cimport Payload, encode_message
from fastws._opening cimport Opening

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

cdef enum:
    NORMAL = 1000
    INTERNAL_ERROR = 1011


cdef class Sending(Opening):
    """What a connection does for those who send; see `Connection`."""

    @cython.nonecheck(False)
    def send(self, message, *, text=None, compress=None):
        """
        Queue a message; it leaves at the end of the event loop's turn, RFC 6455 6.1.

        Args:
            message: str is sent as text, bytes and any other contiguous buffer as binary.
                A buffer that may change is copied. A list or tuple of these is sent as one message
                in fragments, RFC 6455 5.4; so is any other iterable and any asynchronous iterable,
                of which sending needs an `await`.
            text: True sends bytes, which must be UTF-8, as text; False sends a str as binary.
            compress: whether to compress, where compression was agreed on. None decides by size.

        Returns: an awaitable. Callbacks ignore it; a coroutine that awaits it is held while
            more than `write_limit` bytes wait for this peer.

        Raises:
            ConnectionClosed: the connection is closed or closing; nothing was sent. In a coroutine
                handler and in a client `await` raises it, so that the result can go to `gather`.
            TypeError: `message` is no str, no contiguous buffer and no iterable of these.
            UnicodeError: the text has no UTF-8 form.
            RuntimeError: called from a thread other than the event loop's.
        """
        cdef Payload payload
        cdef object owner
        if PyThread_get_thread_ident() != self.carrier.thread:
            self.check_thread()
        if self.phase != RUNNING or self.close_queued:
            return self.closed_awaitable()
        if not isinstance(message, (str, bytes)) and is_streamable(message):
            return self.send_iterable(message, text, compress)
        owner = encode_message(message, text, &payload)
        if self.outbox != NULL and self.outbox.size > self.settings.write_cap:
            self.drop_overfull()
            return self.closed_awaitable()
        if self.extras is not None and self.extras.stream is not None:
            # It must not come between fragments, RFC 6455 5.4.
            return (<Stream>self.extras.stream).queue(self, payload.opcode, owner, compress)
        self.send_message(&payload, <PyObject *>owner, compress)
        return self.after_send()

    cdef object send_iterable(self, message, text, compress):
        """Send a list at once, when there is no other message to wait for; anything else as it comes."""
        cdef Stream mine
        cdef Payload payload
        cdef list fragments
        if not isinstance(message, (list, tuple)) or (self.extras is not None and self.extras.stream is not None):
            return self.send_fragments(message, text, compress)
        mine = Stream(compress)
        fragments = list(message)
        for fragment in fragments:
            # Nothing is sent of what cannot be sent whole.
            self.encode_fragment(mine, fragment, text, &payload)
        for fragment in fragments:
            self.send_fragment(mine, fragment, text)
        self.end_fragments(mine)
        return self.after_send()

    async def send_fragments(self, message, text, compress):
        """Internal: send the items of `message` as one message in fragments."""
        cdef Extras extras = self.more()
        cdef Stream mine
        while extras.stream is not None:
            await (<Stream>extras.stream).ended(self)
        if self.phase != RUNNING or self.close_queued:
            raise self.closed_error()
        mine = extras.stream = Stream(compress)
        try:
            async for fragment in fragments_of(message):
                await self.send_fragment(mine, fragment, text)
            if self.phase == RUNNING and not self.close_queued:
                self.end_fragments(mine)
        except BaseException:
            # The message cannot be ended as what it was to be.
            if mine.started and self.phase == RUNNING and not self.close_queued:
                self.fail_internally()
                self.after_input()
            raise
        finally:
            extras.stream = None
            mine.end(self)
        await self.after_send()

    cdef object send_fragment(self, Stream stream, fragment, text):
        cdef Payload payload
        cdef object owner
        if self.phase != RUNNING or self.close_queued:
            raise self.closed_error()
        owner = self.encode_fragment(stream, fragment, text, &payload)
        if not stream.started:
            stream.packed = self.deflating != NULL and is_worth(self.deflating, payload.size, stream.compress)
        if stream.packed:
            # RFC 7692 6.1: the message is compressed as a whole; RSV1 is set on its first frame.
            self.send_packed(WS_CONT if stream.started else stream.opcode | WS_RSV1, &payload, True)
        else:
            self.send_frame(WS_CONT if stream.started else stream.opcode, payload.data, payload.size,
                            <PyObject *>owner)
        stream.started = True
        return self.after_send()

    cdef int end_fragments(self, Stream stream) except -1:
        if not stream.started:
            return 0
        # Of a compressed one the flush behind the last fragment has left: this is the next, RFC 7692 7.2.1.
        return self.send_frame(WS_FIN | WS_CONT, b"\0", 1 if stream.packed else 0, NULL)

    cdef object encode_fragment(self, Stream stream, fragment, text, Payload *payload):
        cdef object owner = encode_message(fragment, None if text else text, payload)
        if text:
            # Its characters may be cut by the edges of fragments: it is the whole that is UTF-8.
            payload.opcode = WS_TEXT
        if stream.opcode and payload.opcode != stream.opcode:
            raise TypeError("all fragments of a message must be str, or all bytes")
        stream.opcode = payload.opcode
        return owner

    def ping(self, data=None):
        """
        Send a Ping, RFC 6455 5.5.2.

        Args:
            data: str or bytes, at most 125 bytes; None is 4 bytes of our choice.

        Returns: an awaitable that gives a future that gives the latency in seconds:
            `latency = await (await ws.ping())`.
            Not for an `async def` callback to wait for: until that is done nothing more is received
            for its connection, the Pong neither. Let a task wait, or a coroutine handler.

        Raises: ConnectionClosed, ValueError for longer data, ConcurrencyError for data that a Ping
            which is not answered has.
        """
        cdef bytes payload
        cdef list ping
        self.check_thread()
        if self.phase != RUNNING or self.close_queued:
            return self.closed_awaitable()
        if data is None:
            self.ping_number += 1
            payload = int(self.ping_number).to_bytes(4, "big")
        else:
            payload = control_payload(data)
            if self.extras is not None and self.extras.pings is not None:
                for ping in self.extras.pings:
                    if ping[0] == payload:
                        raise ConcurrencyError("a ping with the same data waits for its pong already")
        ping = [payload, self.carrier.seconds(), None]
        extras = self.more()
        if extras.pings is None:
            extras.pings = []
        extras.pings.append(ping)
        self.send_frame(WS_FIN | WS_PING, payload, <size_t>len(payload), <PyObject *>payload)
        return pinged(self, ping)

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
            return self.closed_awaitable()
        self.send_frame(WS_FIN | WS_PONG, payload, <size_t>len(payload), <PyObject *>payload)
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
        if code is not None:
            encode_close(code, reason)  # judges them, also when it is too late
        self.begin_close(code, reason)
        return waiting(self, CLOSED)

    cdef object closed_awaitable(self):
        if self.callbacks is not None and self.callbacks.main is not None:
            return failing(self.closed_error())
        raise self.closed_error()

    cdef int begin_close(self, code, str reason) except -1:
        if self.extras is not None and self.extras.stream is not None and (<Stream>self.extras.stream).started:
            # Its end will not come; the peer must not take it for a good one.
            return Opening.begin_close(self, INTERNAL_ERROR, "close during a fragmented message")
        return Opening.begin_close(self, code, reason)

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        await self.close(NORMAL if kind is None else INTERNAL_ERROR)

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
        return self.carrier.unsent(self) + (0 if self.outbox == NULL else self.outbox.size)

    cdef int queue_after_stream(self, bytes frame) except -1:
        (<Stream>self.extras.stream).messages.append((None, frame, None))
        return 0

    cdef int notify_closed(self) except -1:
        Opening.notify_closed(self)
        if self.extras is not None and self.extras.stream is not None:
            # What waits behind a message in fragments, which may never end.
            wake_all((<Stream>self.extras.stream).waiters, self.closed_error())
        return 0

    cdef object after_send(self):
        if self.outbox == NULL or self.outbox.size <= self.settings.write_limit:
            return READY
        self.over_limit = True
        return waiting(self, DRAINED)

    cdef int fail_internally(self) except -1:
        if self.phase == RUNNING:
            self.fail(INTERNAL_ERROR, "internal error")
        return 0


cdef class Stream:
    """A message that is being sent in fragments, and what has to wait for its end."""

    def __cinit__(self, compress=None):
        self.compress = compress
        self.messages = []
        self.waiters = []

    cdef object ended(self, Sending connection):
        """Return a future for the end."""
        future = connection.carrier.loop.create_future()
        self.waiters.append(future)
        return future

    cdef object queue(self, Sending connection, uint8_t opcode, owner, compress):
        self.messages.append((opcode, owner, compress))
        return self.ended(connection)

    cdef int end(self, Sending connection) except -1:
        cdef Payload payload
        for opcode, owner, compress in self.messages:
            if connection.phase != RUNNING or connection.close_queued:
                break
            if opcode is None:
                if connection.deflating != NULL:
                    # It may be compressed by itself, for many: see _fanout.
                    forget_output(connection.deflating)
                connection.queue_bytes(owner)
                continue
            encode_message(owner, None, &payload)
            payload.opcode = opcode
            connection.send_message(&payload, <PyObject *>owner, compress)
        return wake_all(self.waiters, None)


cdef bytes control_payload(data):
    cdef bytes payload = data.encode() if isinstance(data, str) else bytes(memoryview(data))
    if len(payload) > WS_CONTROL_MAX:
        raise ValueError(f"control frame payload is {len(payload)} bytes, limit is {WS_CONTROL_MAX}")
    return payload


def broadcast(connections, message, *, text=None, compress=None):
    """
    Send one message to many connections; it is encoded once, and compressed once.

    Connections that are closed, closing, or that have to be dropped because more than
    `write_cap` bytes wait for them, are passed over.

    Args:
        connections: an iterable of connections.
        message, text, compress: as `Connection.send` takes them.

    Returns: the number of connections that the message was queued for.
    Raises: TypeError and UnicodeError, as `send` does; then nothing was sent.
    """
    cdef Payload payload
    cdef Sending connection
    cdef Frames frames
    cdef bytes frame
    cdef Py_ssize_t count = 0
    cdef object owner = encode_message(message, text, &payload)
    frames = Frames(compress)
    frames.encode(&payload)
    for connection in connections:
        if connection.phase != RUNNING or connection.close_queued:
            continue
        if PyThread_get_thread_ident() != connection.carrier.thread:
            connection.check_thread()
        if connection.outbox != NULL and connection.outbox.size > connection.settings.write_cap:
            connection.drop_overfull()
            continue
        if connection.client:
            connection.send_message(&payload, <PyObject *>owner, compress)
            count += 1
            continue
        if connection.extras is not None and connection.extras.stream is not None:
            # It must not come between fragments, RFC 6455 5.4.
            (<Stream>connection.extras.stream).queue(connection, payload.opcode, owner, compress)
            count += 1
            continue
        frame = frames.frames[frames.variant(connection.deflating)]
        # A peer that reads gets a copy, which is gone in a moment; for one that does not, the
        # frame is kept once, however many of them there are.
        connection.queue(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(frame), <size_t>PyBytes_GET_SIZE(frame),
                         <PyObject *>frame, not connection.blocked)
        connection.over_limit = connection.over_limit or (
            connection.outbox != NULL and connection.outbox.size > connection.settings.write_limit)
        count += 1
    return count
