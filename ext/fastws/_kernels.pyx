"""The kernels of ext/kernels: which set is in use, and each of them for tests and benchmarks.

In: payload bytes. Out: the same unmasked, and whether they are UTF-8. RFC 6455 5.3 and 8.1.
"""

import os

from libc.stdint cimport uint8_t, uint32_t


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


cdef const ws_kernels *find(kernel) except NULL:
    cdef const ws_kernels *found = active if kernel is None else ws_kernels_choose(kernel.encode())
    if found == NULL:
        raise ValueError(f"kernel is {kernel!r}, allowed are {', '.join(supported())}")
    return found


cdef int check(key, int phase) except -1:
    if len(key) != 4:
        raise ValueError(f"masking key is {len(key)} bytes, it has 4")
    if not 0 <= phase <= 3:
        raise ValueError(f"phase is {phase}, allowed are 0 to 3")
    return 0


def unmask(const uint8_t[::1] src, bytes key, int phase=0, *, uint8_t[::1] into=None, kernel=None):
    """
    XOR bytes with a masking key, RFC 6455 5.3.

    Args:
        src: the bytes.
        key: 4 bytes.
        phase: offset of `src` in its payload, modulo 4.
        into: where the result goes, as long as `src`; the same memory, or apart from it.
            None makes a new object.
        kernel: a name of `supported()`; None is the one in use.

    Returns: the bytes, or None with `into`.
    Raises: ValueError for an argument out of range.
    """
    cdef const ws_kernels *found = find(kernel)
    cdef size_t size = <size_t>src.shape[0]
    cdef bytearray result
    check(key, phase)
    if into is None:
        result = bytearray(size)
        if size:
            found.unmask(<uint8_t *><char *>result, &src[0], size, <const uint8_t *><char *>key, <unsigned>phase)
        return bytes(result)
    if into.shape[0] != src.shape[0]:
        raise ValueError(f"into is {into.shape[0]} bytes, src is {src.shape[0]}")
    if size:
        found.unmask(&into[0], &src[0], size, <const uint8_t *><char *>key, <unsigned>phase)
    return None


cdef class Utf8:
    """
    A text that is validated piece by piece, RFC 3629.

    Args:
        kernel: a name of `supported()`; None is the one in use.
    """
    cdef const ws_kernels *kernel
    cdef ws_utf8 state

    def __cinit__(self, *, kernel=None):
        self.kernel = find(kernel)

    @property
    def complete(self):
        """Whether the text so far ends at a code point boundary."""
        return self.state.dfa == 0

    @property
    def ascii(self):
        """Whether the text so far is pure ASCII."""
        return self.state.non_ascii == 0

    def validate(self, const uint8_t[::1] src):
        """Go on with `src`. Returns: its length, or the offset of the first byte that is wrong."""
        if src.shape[0] == 0:
            return 0
        return self.kernel.validate(&self.state, &src[0], <size_t>src.shape[0])

    def unmask_validate(self, const uint8_t[::1] src, bytes key, int phase, uint8_t[::1] into):
        """Unmask `src` into `into`, as `unmask` does, and go on with the result, as `validate` does."""
        check(key, phase)
        if into.shape[0] != src.shape[0]:
            raise ValueError(f"into is {into.shape[0]} bytes, src is {src.shape[0]}")
        if src.shape[0] == 0:
            return 0
        return self.kernel.unmask_validate(&self.state, &into[0], &src[0], <size_t>src.shape[0],
                                           <const uint8_t *><char *>key, <unsigned>phase)


cdef str chosen = os.environ.get("FASTWS_KERNELS", "")
active = ws_kernels_choose(chosen.encode())
if active == NULL:
    raise ImportError(f"FASTWS_KERNELS is {chosen!r}, this CPU and build have {', '.join(supported())}")
