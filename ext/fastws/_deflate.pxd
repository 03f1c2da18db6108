from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastws._messages cimport Payload


cdef extern from "zlib.h" nogil:
    ctypedef unsigned int uInt
    ctypedef struct z_stream:
        const uint8_t *next_in
        uInt avail_in
        uint8_t *next_out
        uInt avail_out
        const char *msg
        int data_type


# What permessage-deflate is for one connection, RFC 7692: what was agreed on, and the contexts.
cdef struct Deflating:
    # --- agreed on
    uint8_t out_bits, in_bits          # base-2 logarithms of the windows
    uint8_t out_takeover, in_takeover  # a message may refer to those before it
    uint8_t level, memory_level
    uint32_t min_size                  # smaller messages are not compressed
    # --- what is received. NULL: nothing has to be remembered.
    z_stream *inflater
    # What messages before may be referred to, while there is no inflater: at most a window.
    uint8_t *window
    uint32_t window_size
    # The inflater is behind a block with BFINAL set; another may follow, RFC 7692 7.2.3.4.
    uint8_t ended
    # The message under way: bytes of it that were taken, and such blocks.
    uint64_t taken
    uint32_t endings
    # --- what is sent. NULL: the next message refers to none before it.
    z_stream *deflater
    # --- among those that have contexts of their own
    Deflating *next
    Deflating *previous
    uint32_t used                      # the last period in which it was used


cdef enum:
    WS_RSV1 = 0x40

# The four bytes that end a flush, which no message is sent with.
cdef const uint8_t *TAIL

# `agreed`: an extensions.Agreed.
cdef Deflating *deflating_new(object agreed) except NULL
# May be NULL.
cdef void deflating_free(Deflating *self) noexcept

# Whether a message of `size` bytes is to be compressed; `compress` is what the user said, or None.
cdef bint is_worth(Deflating *self, size_t size, object compress) except -1

# Make `inflater` ready for the next bytes, with what was before; give it back.
cdef int take_inflater(Deflating *self) except -1
cdef void drop_inflater(Deflating *self) noexcept
# RFC 7692 7.2.3.4: after a final block others may follow, with the same window.
cdef int go_on_behind_end(Deflating *self) except -1

# Compress a message, or with `more` a fragment of which others follow. Sets `packed`, and returns the
# object that keeps its bytes alive: None when they are few, and stay until the next call. With
# `packed.data` NULL it is better to send it as it is.
cdef object deflate_message(Deflating *self, const Payload *payload, bint more, bint needed, Payload *packed)
# The frame of a message for all connections with such settings, by themselves: no other message has to be
# known. None: it is better to send it as it is.
cdef bytes shared_frame(Deflating *self, const Payload *payload)
# Such a frame is sent: what comes after it must not refer to what came before.
cdef void forget_output(Deflating *self) noexcept

# A period of time is over: end the contexts that were not used in it, at most `most`. Returns whether there
# are more, for another call.
cdef bint end_period(uint32_t most) noexcept
