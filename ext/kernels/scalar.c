/* The reference set: portable C, eight bytes a step where that is easy. */
#include "ws_scalar.h"

extern const ws_kernels ws_kernels_scalar;

static void unmask(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t key[4], unsigned phase)
{
    uint8_t turned[8];
    for (unsigned i = 0; i < 8; i++)
        turned[i] = key[(phase + i) & 3];
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

static size_t validate(ws_utf8 *state, const uint8_t *src, size_t len)
{
    return ws_utf8_scalar(state, src, len);
}

static size_t unmask_validate(ws_utf8 *state, uint8_t *dst, const uint8_t *src, size_t len,
                              const uint8_t key[4], unsigned phase)
{
    unmask(dst, src, len, key, phase);
    return ws_utf8_scalar(state, dst, len);
}

const ws_kernels ws_kernels_scalar = {"scalar", unmask, validate, unmask_validate};
