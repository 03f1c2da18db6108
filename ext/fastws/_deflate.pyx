"""permessage-deflate: contexts, and messages deflated; RFC 7692 7.2.1.

In: messages. Out: compressed payloads. What is received goes through `_inflate`, with the contexts kept here.

zlib inflates, and deflates where messages refer to those before, or at levels above the first. What stands by
itself is deflated by our own kernel, which is several times as fast on messages of some hundred bytes.

Contexts. A message that refers to none before it needs an inflater only while it is under way, and
a compressor only for one call: these are shared by all connections. Where messages may refer to
those before, a connection has its own, from the first message that needs it. If it is idle its compressor
is ended, since a sender may start anew at any time; its inflater becomes the bytes of its window.

What one sender compresses for many, `shared_frame`, refers to nothing before it. A connection with a
compressor of its own may be sent it, too, if that starts anew behind it: then distances fit the peer's
window, which has seen both.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from fastws._frames cimport WS_FIN, WS_HEADER_MAX, ws_header_encode
from fastws._kernels cimport WS_DEFLATE_BOUND, WS_DEFLATE_MAX, deflate_alone
from fastws._messages cimport Payload

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    PyObject *_PyBytes_FromStringAndSize "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    char *_PyBytes_AS_STRING "PyBytes_AS_STRING"(PyObject *data) noexcept

cdef extern from "zlib.h" nogil:
    enum:
        Z_OK
        Z_NO_FLUSH
        Z_SYNC_FLUSH
        Z_DEFLATED
        Z_DEFAULT_STRATEGY
    int inflateInit2(z_stream *stream, int bits) noexcept
    int inflateReset(z_stream *stream) noexcept
    int inflateReset2(z_stream *stream, int bits) noexcept
    int inflateEnd(z_stream *stream) noexcept
    int inflateGetDictionary(z_stream *stream, uint8_t *data, uInt *size) noexcept
    int inflateSetDictionary(z_stream *stream, const uint8_t *data, uInt size) noexcept
    int deflateInit2(z_stream *stream, int level, int method, int bits, int memory_level, int strategy) noexcept
    int deflateReset(z_stream *stream) noexcept
    int deflate(z_stream *stream, int flush) noexcept
    int deflateEnd(z_stream *stream) noexcept
    unsigned long deflateBound(z_stream *stream, unsigned long size) noexcept

cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    #define fastws_trim() malloc_trim(16 * 1024 * 1024)
    #else
    #define fastws_trim() 0
    #endif
    """
    int fastws_trim() noexcept

cdef enum:
    # So many contexts that have ended are worth giving their pages back to the system.
    MANY_ENDED = 256
    SCRATCH = 64 * 1024
    WINDOW = 32 * 1024
    # Compressed payloads up to this size are copied by outboxes, and so may lie in scratch memory.
    SMALL = 2048
    FLUSH = 64                 # more than a sync flush may add
    CHUNK = 1 << 30            # the most that is given to zlib at once, whose sizes are unsigned int
    SPARE_INFLATERS = 16
    COMPRESSORS = 32


# Used within one call each; the GIL is held throughout.
cdef uint8_t[SCRATCH] deflated
cdef uint8_t[WINDOW] window

# RFC 7692 7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message."
# A literal: it is there as long as the module.
TAIL = <const uint8_t *><const char *>b"\x00\x00\xff\xff"

cdef z_stream *spare_inflaters[SPARE_INFLATERS]
cdef int spare_inflater_count = 0

# One for each set of parameters; there are few.
cdef struct Compressor:
    z_stream *stream
    uint8_t level, memory_level, bits

cdef Compressor compressors[COMPRESSORS]
cdef int compressor_count = 0

# Those that have contexts of their own.
cdef Deflating *first = NULL
cdef uint32_t period = 0
cdef uint32_t ended = 0            # since pages were given back


# ---------------------------------------------------------------------- contexts

cdef Deflating *deflating_new(object agreed) except NULL:
    cdef Deflating *self = <Deflating *>PyMem_Malloc(sizeof(Deflating))
    if self == NULL:
        raise MemoryError
    memset(self, 0, sizeof(Deflating))
    self.out_bits = agreed.out_bits
    self.in_bits = agreed.in_bits
    self.out_takeover = agreed.out_takeover
    self.in_takeover = agreed.in_takeover
    self.level = agreed.level
    self.memory_level = agreed.memory_level
    self.min_size = agreed.min_size
    return self


cdef void deflating_free(Deflating *self) noexcept:
    if self == NULL:
        return
    drop_inflater(self)
    forget_output(self)
    PyMem_Free(self.window)
    self.window = NULL
    disown(self)
    PyMem_Free(self)


cdef z_stream *new_stream() except NULL:
    cdef z_stream *stream = <z_stream *>PyMem_Malloc(sizeof(z_stream))
    if stream == NULL:
        raise MemoryError
    memset(stream, 0, sizeof(z_stream))
    return stream


cdef z_stream *new_deflater(Deflating *self) except NULL:
    cdef z_stream *stream = new_stream()
    if deflateInit2(stream, self.level, Z_DEFLATED, -self.out_bits, self.memory_level, Z_DEFAULT_STRATEGY) != Z_OK:
        PyMem_Free(stream)
        raise MemoryError("no memory for a compressor")
    return stream


cdef int take_inflater(Deflating *self) except -1:
    """Make `inflater` ready for the next bytes, with what was before."""
    global spare_inflater_count
    cdef z_stream *stream
    if self.inflater != NULL:
        self.used = period
        return 0
    if spare_inflater_count:
        spare_inflater_count -= 1
        stream = spare_inflaters[spare_inflater_count]
        inflateReset2(stream, -self.in_bits)
    else:
        stream = new_stream()
        if inflateInit2(stream, -self.in_bits) != Z_OK:
            PyMem_Free(stream)
            raise MemoryError("no memory for a decompressor")
    self.inflater = stream
    if self.window != NULL:
        if inflateSetDictionary(stream, self.window, self.window_size) != Z_OK:
            raise MemoryError("no memory for a decompressor")
        PyMem_Free(self.window)
        self.window = NULL
    if self.in_takeover:
        own(self)
    return 0


cdef void drop_inflater(Deflating *self) noexcept:
    global spare_inflater_count
    if self.inflater == NULL:
        return
    if spare_inflater_count < SPARE_INFLATERS:
        spare_inflaters[spare_inflater_count] = self.inflater
        spare_inflater_count += 1
    else:
        inflateEnd(self.inflater)
        PyMem_Free(self.inflater)
    self.inflater = NULL
    self.ended = False


cdef int go_on_behind_end(Deflating *self) except -1:
    cdef uInt size = 0
    inflateGetDictionary(self.inflater, window, &size)
    inflateReset(self.inflater)
    if inflateSetDictionary(self.inflater, window, size) != Z_OK:
        raise MemoryError("no memory for a decompressor")
    self.ended = False
    self.endings += 1
    return 0


cdef void own(Deflating *self) noexcept:
    global first
    self.used = period
    if self.previous != NULL or first == self:
        return
    self.next = first
    if first != NULL:
        first.previous = self
    first = self


cdef void disown(Deflating *self) noexcept:
    global first
    if self.previous == NULL and first != self:
        return
    if first == self:
        first = self.next
    else:
        self.previous.next = self.next
    if self.next != NULL:
        self.next.previous = self.previous
    self.next = self.previous = NULL


cdef void forget_output(Deflating *self) noexcept:
    if self.deflater != NULL:
        deflateEnd(self.deflater)
        PyMem_Free(self.deflater)
        self.deflater = NULL


cdef bint end_period(uint32_t most) noexcept:
    global period, ended
    cdef Deflating *self = first
    cdef Deflating *after
    cdef uInt size = 0
    while self != NULL:
        after = self.next
        if self.used != period and self.taken == 0:
            if most == 0:
                return True
            most -= 1
            ended += 1
            forget_output(self)
            if self.inflater != NULL:
                inflateGetDictionary(self.inflater, window, &size)
                self.window = <uint8_t *>PyMem_Malloc(size if size else 1)
                if self.window != NULL:
                    memcpy(self.window, window, size)
                    self.window_size = size
                    drop_inflater(self)
            if self.inflater == NULL:
                disown(self)
            else:
                self.used = period  # no memory: another time
        self = after
    period += 1
    if ended >= MANY_ENDED:
        ended = 0
        fastws_trim()
    return False


# ---------------------------------------------------------------------- out

cdef bint is_worth(Deflating *self, size_t size, object compress) except -1:
    if self.out_bits < 9:
        return False
    return size >= self.min_size if compress is None else bool(compress)


cdef z_stream *common_deflater(Deflating *self) except NULL:
    """Return the compressor of all connections with such parameters, at its start."""
    global compressor_count
    cdef Compressor *found
    cdef int i
    for i in range(compressor_count):
        found = &compressors[i]
        if found.level == self.level and found.bits == self.out_bits and found.memory_level == self.memory_level:
            deflateReset(found.stream)
            return found.stream
    if compressor_count == COMPRESSORS:
        # A program with more sets of parameters than that: the last one changes.
        compressor_count -= 1
        deflateEnd(compressors[compressor_count].stream)
        PyMem_Free(compressors[compressor_count].stream)
    found = &compressors[compressor_count]
    found.stream = new_deflater(self)
    found.level = self.level
    found.bits = self.out_bits
    found.memory_level = self.memory_level
    compressor_count += 1
    return found.stream


cdef int room_for(size_t bound, PyObject **buffer, uint8_t **target) except -1:
    """Point `target` at so much room: scratch memory, or a new bytes object."""
    buffer[0] = NULL
    target[0] = deflated
    if bound > SCRATCH:
        buffer[0] = _PyBytes_FromStringAndSize(NULL, <Py_ssize_t>bound)
        target[0] = <uint8_t *>_PyBytes_AS_STRING(buffer[0])
    return 0


cdef object owner_of(PyObject *buffer):
    # `buffer` is a reference of ours, which becomes the caller's.
    cdef object owner = None
    if buffer != NULL:
        owner = <object>buffer
        Py_XDECREF(buffer)
    return owner


cdef object run_deflater(z_stream *stream, const Payload *payload, Payload *packed):
    """Compress by zlib, with a sync flush at the end. Sets `packed`, and returns who has its bytes, or None."""
    cdef PyObject *buffer
    cdef uint8_t *target
    cdef size_t left = payload.size
    cdef size_t used = 0
    cdef size_t part
    # What deflateBound does not know of is the flush.
    cdef size_t room = max(deflateBound(stream, left) + FLUSH, <size_t>SCRATCH)
    room_for(room, &buffer, &target)
    stream.next_in = payload.data
    stream.avail_in = 0
    while True:
        if stream.avail_in == 0:
            part = min(left, <size_t>CHUNK)
            stream.avail_in = <uInt>part
            left -= part
        if room - used < FLUSH:
            # More than zlib's bound. It may flush twice with less room than this.
            if buffer == NULL:
                room_for(2 * SCRATCH, &buffer, &target)
                memcpy(target, deflated, used)
                room = 2 * SCRATCH
            else:
                room *= 2
                _PyBytes_Resize(&buffer, <Py_ssize_t>room)
                target = <uint8_t *>_PyBytes_AS_STRING(buffer)
        part = min(room - used, <size_t>CHUNK)
        stream.next_out = target + used
        stream.avail_out = <uInt>part
        deflate(stream, Z_NO_FLUSH if left else Z_SYNC_FLUSH)
        used += part - stream.avail_out
        if left == 0 and stream.avail_in == 0 and stream.avail_out != 0:
            break
    packed.data = target
    packed.size = used
    return owner_of(buffer)


cdef object deflate_by_itself(Deflating *self, const Payload *payload, bint needed, Payload *packed):
    """
    Compress what refers to nothing before it. Sets `packed`, with the four bytes that end a flush, and returns who
    has its bytes, or None.

    Args:
        needed: also if it is not smaller then; else `packed.data` is NULL.
    """
    cdef PyObject *buffer
    cdef uint8_t *target
    cdef size_t room, used
    cdef object owner
    if self.level == 1 and payload.size <= WS_DEFLATE_MAX:
        room = WS_DEFLATE_BOUND(payload.size) if needed or payload.size == 0 else payload.size - 1
        room_for(room + 4, &buffer, &target)
        used = deflate_alone(payload.data, payload.size, target, room, self.out_bits)
        owner = owner_of(buffer)
        packed.data = NULL
        if used:
            memcpy(target + used, TAIL, 4)
            packed.data = target
            packed.size = used + 4
        return owner
    owner = run_deflater(common_deflater(self), payload, packed)
    if packed.size >= payload.size + 4 and not needed:
        packed.data = NULL
    return owner


cdef object deflate_message(Deflating *self, const Payload *payload, bint more, bint needed, Payload *packed):
    cdef object owner
    cdef uint8_t opcode = payload.opcode
    if self.out_takeover:
        if self.deflater == NULL:
            self.deflater = new_deflater(self)
        own(self)
        owner = run_deflater(self.deflater, payload, packed)
    else:
        owner = deflate_by_itself(self, payload, needed, packed)
        if packed.data == NULL:
            return None
    packed.opcode = opcode
    if not more and packed.size <= 4:
        # RFC 7692 7.2.3.6: an empty message is one octet. (zlib does not flush twice.)
        deflated[0] = 0
        packed.data = deflated
        packed.size = 1
    elif not more:
        # 7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end."
        packed.size -= 4
    if packed.size > SMALL and (owner is None or PyBytes_GET_SIZE(owner) > 2 * <Py_ssize_t>packed.size):
        owner = PyBytes_FromStringAndSize(<const char *>packed.data, <Py_ssize_t>packed.size)
        packed.data = <const uint8_t *>PyBytes_AS_STRING(owner)
    return owner


cdef bytes shared_frame(Deflating *self, const Payload *payload):
    cdef uint8_t[WS_HEADER_MAX] header
    cdef unsigned header_size
    cdef Payload packed
    cdef object _owner = deflate_by_itself(self, payload, False, &packed)
    if packed.data == NULL:
        return None
    packed.size -= 4
    header_size = ws_header_encode(header, WS_FIN | WS_RSV1 | payload.opcode, packed.size)
    return header[:header_size] + packed.data[:packed.size]
