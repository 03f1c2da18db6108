"""The C kernels, and which set of them is in use: what other modules call without Python between."""

from libc.stdint cimport uint8_t, uint32_t


# The contract, with exact bounds, stands in ext/kernels/ws_kernels.h. The C functions touch
# nothing of Python's, so that noexcept and nogil are true of each.
cdef extern from "ws_kernels.h" nogil:
    # Where a text stands between two pieces; all zero before the first.
    ctypedef struct ws_utf8:
        uint32_t dfa        # 0: at a code point boundary
        uint32_t non_ascii  # not 0 once a byte >= 0x80 was accepted

    ctypedef struct ws_kernels:
        const char *name
        void (*unmask)(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t *key,
                       unsigned phase) noexcept
        size_t (*validate)(ws_utf8 *state, const uint8_t *src, size_t size) noexcept
        size_t (*unmask_validate)(ws_utf8 *state, uint8_t *dst, const uint8_t *src, size_t size,
                                  const uint8_t *key, unsigned phase) noexcept

    const ws_kernels *const *ws_kernels_supported() noexcept
    const ws_kernels *ws_kernels_choose(const char *name) noexcept

# The contract stands in ext/kernels/ws_deflate.h.
cdef extern from "ws_deflate.h" nogil:
    const Py_ssize_t WS_DEFLATE_MAX
    Py_ssize_t WS_DEFLATE_BOUND(Py_ssize_t size) noexcept

    ctypedef struct ws_deflate_state:
        pass

    void ws_deflate_init(ws_deflate_state *state) noexcept
    size_t ws_deflate(ws_deflate_state *state, const uint8_t *src, size_t size, uint8_t *dst, size_t room,
                      unsigned window_bits) noexcept

# The set in use. Never NULL; set once, when _kernels is imported.
cdef const ws_kernels *active

# ws_deflate with a state of this module's; under the GIL.
cdef size_t deflate_alone(const uint8_t *src, size_t size, uint8_t *dst, size_t room, unsigned bits) noexcept
