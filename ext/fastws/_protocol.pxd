from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastws._deflate cimport Deflating
from fastws._frames cimport WS_HEADER_MAX, ws_header
from fastws._messages cimport Message, Payload


cdef class Protocol:
    # --- limits, set once
    # The whole message, in bytes of payload; UINT64_MAX: none.
    cdef uint64_t max_size
    # Deliver text as validated bytes.
    cdef bint text_as_bytes
    # The role: a client masks and its peer must not, RFC 6455 5.1.
    cdef bint client
    # Compression, RFC 7692; NULL: none was agreed on. The bits of RSV1-3 that may be set then.
    cdef Deflating *deflating
    cdef uint8_t rsv_allowed

    # --- where the closing handshake stands, RFC 6455 7.1
    # A Close frame of ours was queued; one of the peer's was received; the connection was
    # failed: then nothing more is parsed.
    cdef readonly bint close_queued
    cdef readonly bint close_arrived
    cdef readonly bint failed
    # 1 when the peer's Close came before ours was queued.
    cdef bint peer_closed_first
    # (code, reason) of each; None while there is none. An empty Close counts as (1005, "").
    cdef readonly tuple close_sent
    cdef readonly tuple close_received

    # --- the consumer: not 0 while it takes nothing more (it set it, and resumes with receive)
    cdef bint held
    # It takes a message that comes in fragments as they come: `on_fragment`.
    cdef bint streaming

    # --- the frame being received
    # An unfinished header: header[0 .. header_size). Empty while a payload is under way.
    cdef uint8_t header_size
    cdef uint8_t[WS_HEADER_MAX] header
    # in_frame: `frame` is valid, and `remaining` bytes of its payload are to come.
    cdef bint in_frame
    cdef ws_header frame
    cdef uint64_t remaining
    # An unfinished control frame's payload, unmasked: 125 bytes, NULL while not needed.
    cdef uint8_t *control

    # --- the message being received; the opcode of the last one delivered
    cdef Message message
    cdef uint8_t last_opcode

    # In. Parse, and hand on what is complete; `data` is overwritten.
    cdef Py_ssize_t receive(self, uint8_t *data, Py_ssize_t size) except -1
    # For a large payload under way: where to put its next bytes, or NULL. Then `received`.
    cdef uint8_t *direct_buffer(self, size_t *room) except? NULL
    cdef int direct_received(self, size_t size) except -1

    # Out. Queue frames; `first` is FIN and opcode; `owner` keeps `data` alive and unchanged
    # (may be NULL up to 125 bytes).
    cdef int send_frame(self, uint8_t first, const uint8_t *data, size_t size, PyObject *owner) except -1
    cdef int send_message(self, const Payload *payload, PyObject *owner, object compress) except -1
    cdef bint send_packed(self, uint8_t first, const Payload *payload, bint needed) except -1
    cdef int use_deflate(self, agreed) except -1
    cdef int send_close(self, code, str reason) except -1
    # _Fail the WebSocket Connection_, RFC 6455 7.1.7.
    cdef int fail(self, int code, str reason) except -1
    cdef int violated(self, int code, str reason) except -1
    cdef int settle(self) except -1
    cdef int stop(self) except -1

    # What the next layer does with it. Each may send, close or hold.
    # on_message has to clear `known.text`, see _messages.
    cdef int on_message(self, object message) except -1
    cdef int on_fragment(self, object data, bint fin) except -1
    cdef int on_ping(self, bytes payload) except -1
    cdef int on_pong(self, bytes payload) except -1
    # One encoded frame goes out.
    cdef int write(self, const uint8_t *header, unsigned header_size, const uint8_t *data, size_t size,
                   PyObject *owner) except -1

    # Internal.
    cdef int begin_frame(self) except -1
    cdef Py_ssize_t take_payload(self, uint8_t *data, size_t available) except -1
    cdef int take_packed(self, uint8_t *data, size_t size) except -1
    cdef int bad_message(self, int verdict) except -1
    cdef int take_control(self, uint8_t *data, size_t size) except -1
    cdef int end_control(self, const uint8_t *payload, size_t size) except -1
    cdef int end_message(self) except -1
    cdef int end_fragment(self) except -1
    cdef int send_masked(self, uint8_t *header, unsigned header_size, const uint8_t *data, size_t size) except -1
    cdef int end_close(self, const uint8_t *payload, size_t size) except -1
