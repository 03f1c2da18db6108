from libc.stdint cimport uint8_t, uint64_t

from fastws._deflate cimport Deflating
from fastws._messages cimport Message


cdef enum:
    # What can be wrong with compressed messages; also _messages.INVALID_TEXT.
    CORRUPT = -3
    TOO_LARGE = -4
    ENDLESS = -5

# All raise MemoryError; then the message is lost, and so are those that refer to it.
# A whole message at `src`. None with `verdict[0]` != 0: one of the above, or INVALID_TEXT. `message`
# is one that has not begun, but for its opcode; it is dropped.
cdef object inflate_whole(Deflating *self, Message *message, const uint8_t *src, size_t size, uint64_t max_size,
                          bint as_bytes, int *verdict)
# Append what `size` bytes of a message's payload stand for, or what is left at its end. 0, or as above.
cdef int inflate_some(Deflating *self, Message *message, const uint8_t *src, size_t size,
                      uint64_t max_size) except -1
cdef int inflate_end(Deflating *self, Message *message, uint64_t max_size) except -1
# The most bytes of a compressed message with so many bytes of content.
cdef uint64_t most_taken(uint64_t size) noexcept
