from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t

from fastws._frames cimport WS_HEADER_MAX


# A run of bytes that frames are copied into; the bytes follow the struct.
cdef struct Chunk:
    uint32_t room
    uint32_t used


# Whole frames, ready to send: either copied into a chunk, or one frame whose payload stays
# in `owner`, which nobody changes (a bytes, or a str and its UTF-8).
cdef struct Entry:
    PyObject *owner     # a reference of ours; NULL when the bytes are in `chunk`
    Chunk *chunk        # ours; NULL when the bytes are in `owner`
    const uint8_t *data
    size_t size
    uint8_t[WS_HEADER_MAX] header  # sent before `data`
    uint8_t header_size
    # `owner` is a run of frames that were published, `data` .. `data + size` some of them. It may
    # have more behind them, for others.
    uint8_t shared
    # Of a frame that was published, so that a newer one may take its place: which topic it
    # came by (borrowed, compared only), and its key (a reference of ours; NULL: none).
    void *topic
    PyObject *key


# What waits to be sent to one peer, oldest first. There is none while nothing waits.
cdef struct Outbox:
    size_t size         # bytes waiting
    size_t sent         # bytes of the first entry that have left
    uint32_t first      # entries[first .. end) wait
    uint32_t end
    uint32_t room
    Entry *entries
    # The newest Pong of a peer that does not read (see outbox_pong). Size 0: none.
    uint8_t pong_size
    uint8_t[WS_HEADER_MAX + 125] pong


cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef Outbox *outbox_new() except NULL
cdef void outbox_free(Outbox *box) noexcept

# Queue one frame. With `copy` a small payload is copied, else it stays in `owner`. `roomy`:
# more frames are likely to follow at once, so take a large chunk.
cdef int outbox_append(Outbox *box, const uint8_t *header, unsigned header_size, const uint8_t *data,
                       size_t size, PyObject *owner, bint copy, bint roomy) except -1

# Queue a control frame ahead of whole frames, never inside one that has begun to leave.
cdef int outbox_overtake(Outbox *box, const uint8_t *frame, unsigned size) except -1

# Remember a Pong frame for a peer that does not read; only the newest is kept, RFC 6455 5.5.3.
cdef void outbox_pong(Outbox *box, const uint8_t *frame, unsigned size) noexcept
cdef int outbox_place_pong(Outbox *box) except -1

# Queue a whole frame that was published; it stays in `frame`.
cdef int outbox_publish(Outbox *box, bytes frame, void *topic, str key) except -1
# Queue a whole frame that lies in `run`, at `data`: without a copy, when it follows what was taken
# from there before, or nothing else waits.
cdef int outbox_share(Outbox *box, bytes run, const uint8_t *data, size_t size) except -1
# Put `frame` in the place of the waiting one with the same topic and key, if there is one that
# has not begun to leave. Returns whether there was.
cdef bint outbox_conflate(Outbox *box, bytes frame, void *topic, str key) noexcept
# Drop the oldest waiting frame of `topic` that has not begun to leave. Returns whether there was one.
cdef bint outbox_drop_oldest(Outbox *box, void *topic) noexcept

# Point `vectors` at what is to leave next; returns how many are in use.
cdef int outbox_vectors(Outbox *box, iovec *vectors, int limit) noexcept
# `size` bytes have left.
cdef void outbox_sent(Outbox *box, size_t size) noexcept
# Copy what is to leave next, up to `room` bytes, and count it as left. Returns how many bytes.
cdef size_t outbox_take(Outbox *box, uint8_t *target, size_t room) noexcept
# The peer is slow: give back memory that was taken in the hope that it is not.
cdef void outbox_settle(Outbox *box) noexcept
