"""The kernels of ext/kernels: which set is in use, and each of them for tests and benchmarks.

In: payload bytes. Out: the same unmasked, RFC 6455 5.3, whether they are UTF-8, RFC 6455 8.1 and
RFC 3629, and the same compressed, RFC 1951 and RFC 7692 7.2.1. Other extension modules call the set
in use through `active`, and the compressor through `deflate_alone`, without Python between.

FASTWS_KERNELS in the environment names the set to use instead of the best one.
"""

import os

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t


def kernels():
    """Return the name of the set in use: "avx512", "avx2", "sse", "neon" or "scalar"."""
    return active.name.decode()


def supported():
    """Return the names of the sets that this CPU runs, best first; "scalar" is always the last."""
    cdef const ws_kernels *const *entry = ws_kernels_supported()
    names = []
    while entry[0] != NULL:
        names.append(entry[0].name.decode())
        entry += 1
    return tuple(names)


cdef const ws_kernels *named(kernel) except NULL:
    """Return the set called `kernel`, that in use for None. Raises: ValueError for no such set."""
    cdef const ws_kernels *const *entry = ws_kernels_supported()
    if kernel is None:
        return active
    while entry[0] != NULL:
        if entry[0].name.decode() == kernel:
            return entry[0]
        entry += 1
    raise ValueError(f"kernel is {kernel!r}, this CPU and build have {', '.join(supported())}")


@cython.final
cdef class _Pair:
    """What a masked piece is read from and written to, both borrowed while this object lives."""

    cdef Py_buffer src, dst, key
    cdef int held  # how many of them, in this order: key, src, dst
    cdef unsigned phase

    def __cinit__(self, src, key, phase, into):
        PyObject_GetBuffer(key, &self.key, PyBUF_SIMPLE)
        self.held = 1
        if self.key.len != 4:
            raise ValueError(f"masking key is {self.key.len} bytes, it has 4")
        if not 0 <= phase <= 3:
            raise ValueError(f"phase is {phase}, allowed are 0 to 3")
        self.phase = phase
        PyObject_GetBuffer(src, &self.src, PyBUF_SIMPLE)
        self.held = 2
        if into is None:
            return
        PyObject_GetBuffer(into, &self.dst, PyBUF_WRITABLE)
        self.held = 3
        if self.dst.len != self.src.len:
            raise ValueError(f"into is {self.dst.len} bytes, src is {self.src.len}")
        # Raw pointers, compared and never followed. The kernels allow no partial overlap.
        apart = abs(<Py_ssize_t>self.dst.buf - <Py_ssize_t>self.src.buf)
        if 0 < apart < self.src.len:
            raise ValueError(
                f"into overlaps src {apart} bytes apart, allowed are the same memory or none of it")

    def __dealloc__(self):
        if self.held > 2:
            PyBuffer_Release(&self.dst)
        if self.held > 1:
            PyBuffer_Release(&self.src)
        if self.held > 0:
            PyBuffer_Release(&self.key)


def unmask(src, key, phase=0, *, into=None, kernel=None):
    """
    XOR bytes with a masking key, RFC 6455 5.3.

    Args:
        src: the bytes; any contiguous buffer.
        key: 4 bytes.
        phase: offset of `src` in its payload, modulo 4; 0 by default.
        into: writable buffer for the result, as long as `src`: the same memory, or none of it.
            None, the default, makes a new object.
        kernel: a name of `supported()`; None, the default, is the set in use.

    Returns: the bytes, or None with `into`.
    Raises: ValueError for an argument out of range.
    """
    cdef const ws_kernels *found = named(kernel)
    cdef _Pair pair = _Pair(src, key, phase, into)
    cdef const uint8_t *raw_key = <const uint8_t *>pair.key.buf  # 4 bytes, _Pair saw to it
    cdef size_t size = <size_t>pair.src.len  # never negative
    if into is not None:
        found.unmask(<uint8_t *>pair.dst.buf, <const uint8_t *>pair.src.buf, size, raw_key, pair.phase)
        return None
    cdef bytes result = PyBytes_FromStringAndSize(NULL, pair.src.len)
    # Nobody else has seen the new object.
    found.unmask(<uint8_t *>PyBytes_AS_STRING(result), <const uint8_t *>pair.src.buf, size, raw_key,
                 pair.phase)
    return result


@cython.final
cdef class Utf8:
    """
    A text that arrives in pieces, validated as it comes, RFC 3629.

    Both methods return how many bytes of the piece may stand where they do: all of them, or the
    offset of the first that may not. The object is of no use after that.

    Args:
        kernel: a name of `supported()`; None, the default, is the set in use.

    Raises: ValueError for an unknown kernel.
    """
    cdef const ws_kernels *kernel
    cdef ws_utf8 state

    def __cinit__(self, *, kernel=None):
        self.kernel = named(kernel)

    @property
    def complete(self):
        """Whether the text so far ends at a code point boundary."""
        return self.state.dfa == 0

    @property
    def ascii(self):
        """Whether the text so far is pure ASCII."""
        return self.state.non_ascii == 0

    def validate(self, src):
        """
        Go on with the next piece.

        Args:
            src: the bytes; any contiguous buffer.

        Returns: the length of `src`, or the offset of the first byte that may not stand there.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(src, &view, PyBUF_SIMPLE)
        # A length is never negative. The call cannot raise, so that the view is always released.
        valid = self.kernel.validate(&self.state, <const uint8_t *>view.buf, <size_t>view.len)
        PyBuffer_Release(&view)
        return valid

    def unmask_validate(self, src, key, phase=0, *, into):
        """
        Unmask the next piece and go on with it, in one pass over memory.

        Args:
            src, key, phase, into: as for `unmask`; `into` holds the bytes afterwards, and anything
                at all after an error.

        Returns: the length of `src`, or the offset of the first byte that may not stand there.
        Raises: ValueError for an argument out of range.
        """
        if into is None:
            raise TypeError("into is None, expected a writable buffer")
        cdef _Pair pair = _Pair(src, key, phase, into)
        # 4 bytes of key and two equal lengths, _Pair saw to it.
        return self.kernel.unmask_validate(
            &self.state, <uint8_t *>pair.dst.buf, <const uint8_t *>pair.src.buf, <size_t>pair.src.len,
            <const uint8_t *>pair.key.buf, pair.phase)


cdef ws_deflate_state compressor
ws_deflate_init(&compressor)


cdef size_t deflate_alone(const uint8_t *src, size_t size, uint8_t *dst, size_t room, unsigned bits) noexcept:
    return ws_deflate(&compressor, src, size, dst, room, bits)


def deflate(src, window_bits=15, room=None):
    """
    Compress a message for permessage-deflate without context takeover, RFC 7692 7.2.1.

    Args:
        src: the message; any contiguous buffer.
        window_bits: 9 to 15, no match reaches further back than 2**window_bits bytes.
        room: how many bytes the result may have; None, the default, is enough for any.

    Returns: raw DEFLATE without the four bytes 00 00 FF FF at its end; None when that is larger
        than `room`.
    Raises: ValueError for an argument out of range.
    """
    cdef Py_buffer view
    cdef bytes result
    cdef size_t size
    if not 9 <= window_bits <= 15:
        raise ValueError(f"window_bits is {window_bits}, allowed are 9 to 15")
    if room is not None and room < 0:
        raise ValueError(f"room is {room}, it is at least 0")
    cdef unsigned bits = window_bits
    PyObject_GetBuffer(src, &view, PyBUF_SIMPLE)
    try:
        if view.len > WS_DEFLATE_MAX:
            raise ValueError(f"src is {view.len} bytes, limit is {WS_DEFLATE_MAX}")
        # Lengths are never negative, and nobody else has seen the new object.
        result = PyBytes_FromStringAndSize(NULL, WS_DEFLATE_BOUND(view.len) if room is None else room)
        size = deflate_alone(<const uint8_t *>view.buf, <size_t>view.len,
                             <uint8_t *>PyBytes_AS_STRING(result), <size_t>len(result), bits)
    finally:
        PyBuffer_Release(&view)
    return result[:size] if size else None


cdef const ws_kernels *chosen() except NULL:
    name = os.environ.get("FASTWS_KERNELS") or None
    if name is None:
        return ws_kernels_choose(NULL)
    try:
        return named(name)
    except ValueError:
        raise ImportError(
            f"FASTWS_KERNELS is {name!r}, this CPU and build have {', '.join(supported())}") from None


active = chosen()
