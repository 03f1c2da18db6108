from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastws._kernels cimport ws_utf8


# A data message that arrives in more than one piece. All zero: none is under way.
cdef struct Message:
    # What has arrived of it, unmasked: buffer is a bytes object of which the first `size`
    # bytes are filled. NULL while nothing has arrived. Nobody else holds it.
    PyObject *buffer
    size_t size
    # Text only: how far it is valid.
    ws_utf8 utf8
    # Bytes of it that were handed on before, as fragments.
    uint64_t handed
    # Data frames so far, empty ones too.
    uint32_t fragments
    # WS_TEXT or WS_BINARY while a message is under way, else 0.
    uint8_t opcode
    # It comes compressed; the above is about its content.
    uint8_t packed


# Where the bytes of an outgoing message are.
cdef struct Payload:
    const uint8_t *data
    size_t size
    # WS_TEXT or WS_BINARY.
    uint8_t opcode


cdef enum:
    INVALID_TEXT = -2

# The text that a consumer is being given, as str or bytes; NULL when there is none, or it is
# not worth the trouble. It was validated as it came, and for str `data` is the same in UTF-8, so
# that passing it on, as echoes and relays do, needs neither validation nor encoding. Borrowed:
# whoever takes the message sets it to NULL before it lets go of it.
cdef struct Known:
    PyObject *text
    const uint8_t *data
    size_t size

cdef Known known

# The object for a whole message at `src`, which is unmasked in place when it is text.
# Returns None with `*valid` = 0 for text that is not UTF-8.
cdef object parse_message(uint8_t opcode, uint8_t *src, size_t size, const uint8_t *key, bint as_bytes,
                          bint *valid)

# The same for content that is not masked.
cdef object message_of(uint8_t opcode, const uint8_t *src, size_t size, bint as_bytes, bint *valid)

# Append `size` masked bytes to a message. `frame_end`: where the frame that they belong to
# will end in the message; `last`: nothing follows that frame. 0, or INVALID_TEXT.
cdef int message_append(Message *message, const uint8_t *src, size_t size, const uint8_t *key, unsigned phase,
                        uint64_t frame_end, bint last) except -1

# Where up to `*room` more bytes of the current frame may be received, and the same for
# what was received there. `message_received` returns 0 or INVALID_TEXT.
cdef uint8_t *message_tail(Message *message, size_t wanted, uint64_t frame_end, bint last,
                           size_t *room) except NULL
cdef int message_received(Message *message, size_t size, const uint8_t *key, unsigned phase) noexcept

# Where more content may be put, with room for `wanted` bytes or one more than `max_size` allows, if
# that is less; whoever does adds to `size`.
cdef uint8_t *message_room(Message *message, size_t wanted, uint64_t max_size, size_t *room) except NULL

# Hand over the finished message and reset. None with `*valid` = 0 when text ends early.
cdef object message_finish(Message *message, bint as_bytes, bint *valid)

# Take what has arrived, and keep the message under way. Of text that is delivered as str, the
# start of a character that has not ended stays.
cdef object message_take(Message *message, bint as_bytes)
cdef void message_drop(Message *message) noexcept

# Find the bytes of an outgoing message. Returns the object that keeps them alive and
# unchanged: hold it as long as `payload` is in use.
cdef object encode_message(object message, object text, Payload *payload)
