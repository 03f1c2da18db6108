/* The hot loops over payload bytes, and the contract that every instruction set keeps.
 *
 * Plain C: no Python.h, no allocation, no global state but the set chosen by
 * ws_kernels_choose(). RFC 6455 5.3 (masking) and 8.1 (UTF-8), RFC 3629 (UTF-8).
 */
#ifndef WS_KERNELS_H
#define WS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Where a text stands between two pieces. Zero-initialise before the first one. */
typedef struct {
    uint32_t dfa;       /* 0: at a code point boundary; else inside one, scalar.c says where */
    uint32_t non_ascii; /* not 0 once a byte >= 0x80 was accepted */
} ws_utf8;

typedef struct {
    const char *name;

    /* XOR src[0..len) with the masking key into dst[0..len), RFC 6455 5.3.
     * dst == src, or the two do not overlap; any alignment; no byte outside
     * [src, src + len) is read, none outside [dst, dst + len) written.
     * phase: payload offset of src[0] modulo 4, for payloads that arrive in pieces.
     * Never fails; needs no GIL. */
    void (*unmask)(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t key[4], unsigned phase);

    /* Go on validating a text with src[0..len).
     * Returns len when every byte may stand where it does (the text may still end inside
     * a code point: state->dfa != 0), else the offset of the first byte that may not;
     * then state must not be used again. No byte outside [src, src + len) is read. */
    size_t (*validate)(ws_utf8 *state, const uint8_t *src, size_t len);

    /* unmask and validate in one pass over memory; returns what validate does for the
     * unmasked bytes. After an error dst[0..len) is unspecified. */
    size_t (*unmask_validate)(ws_utf8 *state, uint8_t *dst, const uint8_t *src, size_t len,
                              const uint8_t key[4], unsigned phase);
} ws_kernels;

/* The sets built into this binary that this CPU runs, best first, NULL at the end;
 * "scalar", the reference, is always the last one. */
const ws_kernels *const *ws_kernels_supported(void);

/* The set called name, or the best one when name is NULL or empty.
 * NULL when no supported set has that name. */
const ws_kernels *ws_kernels_choose(const char *name);

#endif
