from libc.stdint cimport uint8_t, uint32_t


cdef extern from "ws_kernels.h" nogil:
    ctypedef struct ws_utf8:
        uint32_t dfa
        uint32_t non_ascii

    ctypedef struct ws_kernels:
        const char *name
        void (*unmask)(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t *key, unsigned phase) noexcept
        size_t (*validate)(ws_utf8 *state, const uint8_t *src, size_t size) noexcept
        size_t (*unmask_validate)(ws_utf8 *state, uint8_t *dst, const uint8_t *src, size_t size,
                                  const uint8_t *key, unsigned phase) noexcept

    const ws_kernels *const *ws_kernels_supported() noexcept
    const ws_kernels *ws_kernels_choose(const char *name) noexcept

# The set in use. Set once, at import.
cdef const ws_kernels *active
