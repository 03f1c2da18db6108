"""Inflate: compressed messages to their content, as they come, RFC 7692 7.2.2.

In: compressed payloads, in any pieces. Out: content, bounded while it is inflated and, of text, validated as it comes
out. What is found wrong does not depend on the pieces.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from fastws._deflate cimport TAIL, Deflating, drop_inflater, go_on_behind_end, take_inflater, uInt, z_stream
from fastws._frames cimport WS_TEXT
from fastws._kernels cimport active
from fastws._messages cimport (
    INVALID_TEXT, Message, known, message_drop, message_finish, message_of, message_room,
)

cdef extern from "zlib.h" nogil:
    enum:
        Z_OK
        Z_STREAM_END
        Z_BUF_ERROR
        Z_MEM_ERROR
        Z_SYNC_FLUSH
    int inflate(z_stream *stream, int flush) noexcept

cdef enum:
    SCRATCH = 64 * 1024
    STEP = 16 * 1024           # of input: after each its length is judged
    CHUNK = 1 << 30            # the most that is given to zlib at once, whose sizes are unsigned int
    # zlib's account: it stopped between two blocks.
    AT_BOUNDARY = 128
    # Compressed, a message is not much larger than as it is; senders that flush often add a few bytes each
    # time. More than this is empty blocks for their own sake.
    FREE = 64 * 1024
    PER_BYTE = 4
    # What going on behind a final block costs us, in bytes of input.
    ENDING = 256

# Used within one call; the GIL is held throughout.
cdef uint8_t[SCRATCH] inflated


cdef uint64_t most_taken(uint64_t size) noexcept:
    return FREE + PER_BYTE * size if size < <uint64_t>-1 // (2 * PER_BYTE) else <uint64_t>-1


cdef int inflate_into(Deflating *self, uint8_t *target, size_t room, size_t *size) except -1:
    """Call inflate once. Sets `size` to the bytes that came out. 0, or CORRUPT."""
    cdef z_stream *stream = self.inflater
    cdef uInt before
    cdef int code
    if self.ended:
        go_on_behind_end(self)
    before = stream.avail_in
    stream.next_out = target
    stream.avail_out = <uInt>room
    code = inflate(stream, Z_SYNC_FLUSH)
    size[0] = room - stream.avail_out
    self.taken += before - stream.avail_in
    if code == Z_STREAM_END:
        self.ended = True
    elif code == Z_MEM_ERROR:
        raise MemoryError("no memory for a decompressor")
    elif code != Z_OK and (code != Z_BUF_ERROR or stream.avail_in):
        return CORRUPT
    return 0


cdef inline bint is_done(Deflating *self) noexcept:
    """All input is taken, and all that it stands for has come out."""
    return self.inflater.avail_in == 0 and (self.inflater.avail_out != 0 or self.ended)


cdef inline int judge(Deflating *self, uint64_t size) noexcept:
    """Is the input longer than its content explains? Asked where that does not depend on how it came."""
    return ENDLESS if self.taken + <uint64_t>ENDING * self.endings > most_taken(size) else 0


cdef inline int take_content(Message *message, const uint8_t *data, size_t size, uint64_t max_size) noexcept:
    """Count and judge `size` bytes at the end of a message."""
    message.size += size
    if message.opcode == WS_TEXT and active.validate(&message.utf8, data, size) != size:
        return INVALID_TEXT
    return TOO_LARGE if message.handed + message.size > max_size else 0


cdef inline size_t bounded(size_t room, uint64_t have, uint64_t max_size) noexcept:
    # One byte more than allowed tells that it is too much.
    cdef uint64_t left = max_size - have
    return <size_t>(left + 1) if left < room else room


cdef int inflate_rest(Deflating *self, Message *message, uint64_t max_size) except -1:
    """Append what the inflater's input stands for."""
    cdef uint8_t *tail
    cdef size_t room, size
    cdef int verdict, corrupt
    while True:
        tail = message_room(message, 4 * <size_t>self.inflater.avail_in, max_size, &room)
        room = bounded(min(room, <size_t>CHUNK), message.handed + message.size, max_size)
        corrupt = inflate_into(self, tail, room, &size)
        verdict = take_content(message, tail, size, max_size) or corrupt
        if verdict or is_done(self):
            return verdict


cdef int inflate_some(Deflating *self, Message *message, const uint8_t *src, size_t size,
                      uint64_t max_size) except -1:
    cdef size_t part
    cdef int verdict = 0
    while size and not verdict:
        part = min(size, <size_t>(STEP - self.taken % STEP))
        take_inflater(self)
        self.inflater.next_in = src
        self.inflater.avail_in = <uInt>part
        verdict = inflate_rest(self, message, max_size)
        if verdict == 0 and self.taken % STEP == 0:
            verdict = judge(self, message.handed + message.size)
        src += part
        size -= part
    return verdict


cdef inline bint needs_tail(Deflating *self) noexcept:
    # Not behind a final block, where some senders leave it at that; nor for no byte at all, which
    # we take for an empty message.
    return self.taken != 0 and not self.ended


cdef int settle(Deflating *self) noexcept:
    """The message is over. 0, or CORRUPT when it ended inside a block."""
    cdef int verdict = 0
    if self.inflater != NULL:
        if self.taken and not self.ended and not self.inflater.data_type & AT_BOUNDARY:
            verdict = CORRUPT
        if not self.in_takeover:
            drop_inflater(self)
    self.taken = 0
    self.endings = 0
    return verdict


cdef int inflate_end(Deflating *self, Message *message, uint64_t max_size) except -1:
    cdef int verdict = 0
    if needs_tail(self):
        verdict = inflate_some(self, message, TAIL, 4, max_size)
    return verdict or judge(self, message.handed + message.size) or settle(self)


cdef object inflate_whole(Deflating *self, Message *message, const uint8_t *src, size_t size, uint64_t max_size,
                          bint as_bytes, int *verdict):
    cdef uint8_t opcode = message.opcode
    cdef size_t have = 0
    cdef size_t more = 0
    cdef size_t room
    cdef int corrupt
    cdef bint valid
    cdef object content
    verdict[0] = 0
    if 0 < size < STEP:
        # Nearly all messages come out whole in scratch memory. A handler may be interrupted by another thread's
        # connection, and its text must not be said to be there still.
        known.text = NULL
        take_inflater(self)
        self.inflater.next_in = src
        self.inflater.avail_in = <uInt>size
        corrupt = inflate_into(self, inflated, bounded(SCRATCH, 0, max_size), &have)
        if corrupt == 0 and is_done(self) and have < SCRATCH and have <= max_size:
            if needs_tail(self):
                self.inflater.next_in = TAIL
                self.inflater.avail_in = 4
                corrupt = inflate_into(self, inflated + have, bounded(SCRATCH - have, have, max_size), &more)
                have += more
                if not is_done(self):
                    corrupt = CORRUPT  # what goes on behind the tail was cut off
            if corrupt == 0 and have <= max_size:
                message_drop(message)
                content = message_of(opcode, inflated, have, as_bytes, &valid)
                verdict[0] = (judge(self, have) or settle(self)) if valid else <int>INVALID_TEXT
                return content
        # It is larger, or something is wrong with it.
        memcpy(message_room(message, have, max_size, &room), inflated, have)
        verdict[0] = take_content(message, inflated, have, max_size) or corrupt or inflate_rest(self, message, max_size)
    else:
        verdict[0] = inflate_some(self, message, src, size, max_size)
    if verdict[0] == 0:
        verdict[0] = inflate_end(self, message, max_size)
    if verdict[0]:
        return None
    content = message_finish(message, as_bytes, &valid)
    if not valid:
        verdict[0] = INVALID_TEXT
    return content
