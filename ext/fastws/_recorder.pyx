"""Recorder: the protocol with its events in a list, and its frames in a buffer.

In: bytes of a peer; calls. Out: tuples, and bytes to send.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from fastws._frames cimport WS_CONTROL_MAX, WS_FIN, WS_PING
from fastws._messages cimport Payload, encode_message, known
from fastws._protocol cimport Protocol


cdef class Recorder(Protocol):
    """
    The protocol with its events in a list: for tests, tools and micro-benchmarks.

    Args:
        max_size: of a message, in bytes; None is no limit.
        text_as: "str" or "bytes", how text is delivered.
        hold_after_message: stop taking after each message, until `release`.
        client: the role; the peer is a server.
        streaming: take messages in fragments.
        on_event: called with each event as it happens; may call the methods of this object.
        deflate: an extensions.Agreed; None: no compression.

    `events` holds ("message", object), ("fragment", object, bool), ("ping", bytes), ("pong", bytes),
    ("close", code, reason) and ("fail", code, reason).
    """

    def __init__(self, *, max_size=None, text_as="str", hold_after_message=False, on_event=None, client=False,
                 streaming=False, deflate=None):
        self.client = client
        if deflate is not None:
            self.use_deflate(deflate)
        self.streaming = streaming
        if max_size is not None:
            self.max_size = max_size
        self.text_as_bytes = text_as == "bytes"
        self.hold_after_message = hold_after_message
        self.on_event = on_event
        self.events = []
        self.output = bytearray()

    cdef object record(self, tuple event):
        self.events.append(event)
        if self.on_event is not None:
            self.on_event(event)

    cdef int on_message(self, object message) except -1:
        known.text = NULL
        if self.hold_after_message:
            self.held = True
        self.record(("message", message))
        return 0

    cdef int on_fragment(self, object data, bint fin) except -1:
        self.record(("fragment", data, bool(fin)))
        return 0

    cdef int on_ping(self, bytes payload) except -1:
        self.record(("ping", payload))
        return 0

    cdef int on_pong(self, bytes payload) except -1:
        self.record(("pong", payload))
        return 0

    cdef int stop(self) except -1:
        if self.failed:
            self.record(("fail", *self.close_sent))
        else:
            self.record(("close", *self.close_received))
        return 0

    cdef int write(self, const uint8_t *header, unsigned header_size, const uint8_t *data, size_t size,
                   PyObject *owner) except -1:
        self.output += header[:header_size]
        self.output += data[:size]
        return 0

    def receive_data(self, data):
        """Parse `data`, bytes from the peer. Returns: bytes consumed."""
        cdef bytearray copy = bytearray(data)
        return self.receive(<uint8_t *><char *>copy, len(copy))

    def receive_direct(self, data):
        """
        Offer `data` to the buffer of a large payload under way.

        Returns: bytes taken; 0 when there is no such payload.
        """
        cdef size_t room
        cdef bytes piece
        cdef uint8_t *tail = self.direct_buffer(&room)
        if tail == NULL:
            return 0
        piece = bytes(data[:room])
        memcpy(tail, <const char *>piece, <size_t>len(piece))
        self.direct_received(<size_t>len(piece))
        return len(piece)

    def release(self):
        """Take messages again."""
        self.held = False

    def send(self, message, *, text=None, compress=None):
        """Send a message: str, bytes or another contiguous buffer; `text` overrides its kind."""
        cdef Payload payload
        cdef object owner = encode_message(message, text, &payload)
        self.send_message(&payload, <PyObject *>owner, compress)

    def ping(self, bytes payload=b""):
        """Send a Ping of at most 125 bytes."""
        if len(payload) > WS_CONTROL_MAX:
            raise ValueError(f"ping payload is {len(payload)} bytes, limit is {WS_CONTROL_MAX}")
        self.send_frame(WS_FIN | WS_PING, payload, <size_t>len(payload), <PyObject *>payload)

    def close(self, code=1000, str reason=""):
        """Begin the closing handshake; `code` None sends an empty Close frame."""
        self.send_close(code, reason)

    def data_to_send(self):
        """Take the bytes that were queued."""
        data = bytes(self.output)
        self.output.clear()
        return data

    @property
    def retained(self):
        """Bytes of an unfinished message that are kept."""
        return self.message.size
