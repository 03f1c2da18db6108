/* The reference set: portable C, eight bytes a step where that is easy. */
#include "ws_scalar.h"
#include "ws_sets.h"

static void unmask(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t key[4], unsigned phase)
{
    uint8_t turned[8];
    for (unsigned k = 0; k < 8; k++)
        turned[k] = key[(phase + k) & 3];
    uint64_t mask, word;
    memcpy(&mask, turned, 8);
    size_t i = 0;
    for (; len - i >= 8; i += 8) {
        memcpy(&word, src + i, 8);
        word ^= mask;
        memcpy(dst + i, &word, 8);
    }
    for (unsigned k = 0; i < len; i++, k++)
        dst[i] = (uint8_t)(src[i] ^ turned[k]);
}

/* In pieces that stay in the first-level cache between the two steps. */
static size_t unmask_validate(ws_utf8 *state, uint8_t *dst, const uint8_t *src, size_t len,
                              const uint8_t key[4], unsigned phase)
{
    const size_t most = 4096; /* a multiple of 4: every piece has the same phase */
    for (size_t i = 0; i < len; i += most) {
        const size_t size = len - i < most ? len - i : most;
        unmask(dst + i, src + i, size, key, phase);
        const size_t valid = ws_utf8_scalar(state, dst + i, size);
        if (valid != size)
            return i + valid;
    }
    return len;
}

const ws_kernels ws_kernels_scalar = {"scalar", unmask, ws_utf8_scalar, unmask_validate};
