/* The algorithms of the vector sets, written once. A set includes this after it has defined
 *
 *   WS_SET                    its ws_kernels object, WS_NAME its name
 *   WS_TARGET                 the function attribute that enables its instructions
 *   vec, VEC                  the vector type, and its size in bytes: 16, 32 or 64
 *   vec_load, vec_store       any alignment
 *   vec_part(dst, src, size, key)  what ws_part does, for 0 < size < VEC
 *   vec_zero()
 *   vec_key(uint32_t)         its 4 bytes over and over
 *   vec_splat(byte)
 *   vec_table(uint8_t[16])    for vec_lookup(table, v): table[byte] for each byte < 16
 *   vec_shr4(v)               each byte's high nibble
 *   vec_and, vec_or, vec_xor
 *   vec_subs(v, w)            each byte max(v - w, 0)
 *   vec_before1, 2, 3(v, before)   v moved up by 1, 2, 3 bytes, filled from the end of `before`
 *   vec_any_high(v)           not 0 when a byte has its top bit set
 *   vec_any(v)                not 0 when a byte is not 0
 *
 * UTF-8 is judged by the lookups of Keiser and Lemire, "Validating UTF-8 in less than one
 * instruction per byte" (2021): the high and the low nibble of a byte and the high nibble of the
 * next each select a set of errors, and what all three have in common is an error indeed.
 */
#include "ws_scalar.h"
#include "ws_sets.h"
#include "ws_short.h"

#define WS_INLINE WS_TARGET static inline __attribute__((always_inline))

/* One step of the bulk loops: a cache line, whatever the size of a vector. */
#define STEP ((size_t)64)
#define STEP_VECS (STEP / VEC)
#define EACH_VEC _Pragma("GCC unroll 4") for (size_t k = 0; k < STEP_VECS; k++)

/* The errors in two bytes that follow each other, one bit each. */
enum {
    TOO_SHORT = 0x01,  /* a lead, then no continuation */
    TOO_LONG = 0x02,   /* ASCII, then a continuation */
    OVERLONG_3 = 0x04, /* E0 80..9F */
    TOO_LARGE = 0x08,  /* F4 90..BF, F5..FF 90..BF */
    SURROGATE = 0x10,  /* ED A0..BF */
    OVERLONG_2 = 0x20, /* C0, C1 */
    OVERLONG_4 = 0x40, /* F0 80..8F; and F5..FF 80..8F, which no nibble confuses with it */
    TWO_CONTINUATIONS = 0x80, /* an error unless a lead of 3 or 4 bytes stands before them */
    ANY_LOW_NIBBLE = TOO_SHORT | TOO_LONG | TWO_CONTINUATIONS,
    F5_UP = ANY_LOW_NIBBLE | TOO_LARGE | OVERLONG_4,
    ANY_CONTINUATION = TOO_LONG | OVERLONG_2 | TWO_CONTINUATIONS,
};
static const uint8_t first_high[16] = {
    TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
    TWO_CONTINUATIONS, TWO_CONTINUATIONS, TWO_CONTINUATIONS, TWO_CONTINUATIONS,
    TOO_SHORT | OVERLONG_2,
    TOO_SHORT,
    TOO_SHORT | OVERLONG_3 | SURROGATE,
    TOO_SHORT | TOO_LARGE | OVERLONG_4,
};
static const uint8_t first_low[16] = {
    ANY_LOW_NIBBLE | OVERLONG_2 | OVERLONG_3 | OVERLONG_4,
    ANY_LOW_NIBBLE | OVERLONG_2,
    ANY_LOW_NIBBLE,
    ANY_LOW_NIBBLE,
    ANY_LOW_NIBBLE | TOO_LARGE,
    F5_UP, F5_UP, F5_UP, F5_UP, F5_UP, F5_UP, F5_UP, F5_UP,
    F5_UP | SURROGATE,
    F5_UP, F5_UP,
};
static const uint8_t second_high[16] = {
    TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
    ANY_CONTINUATION | OVERLONG_3 | OVERLONG_4,
    ANY_CONTINUATION | OVERLONG_3 | TOO_LARGE,
    ANY_CONTINUATION | SURROGATE | TOO_LARGE,
    ANY_CONTINUATION | SURROGATE | TOO_LARGE,
    TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
};
/* The greatest bytes with which a vector may end and leave no code point open. */
static const uint8_t ends[64] = {
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0xF0 - 1, 0xE0 - 1, 0xC0 - 1,
};

/* Not zero where v cannot go on from `before`. C0, C1 and F5..FF show at the byte behind them. */
WS_INLINE vec utf8_errors(vec v, vec before)
{
    const vec first = vec_before1(v, before);
    const vec pairs = vec_and(vec_and(vec_lookup(vec_table(first_high), vec_shr4(first)),
                                      vec_lookup(vec_table(first_low), vec_and(first, vec_splat(0x0F)))),
                              vec_lookup(vec_table(second_high), vec_shr4(v)));
    /* The top bit where a third or fourth byte must stand, just where TWO_CONTINUATIONS is right. */
    const vec third = vec_subs(vec_before2(v, before), vec_splat(0xE0 - 0x80));
    const vec fourth = vec_subs(vec_before3(v, before), vec_splat(0xF0 - 0x80));
    return vec_xor(vec_and(vec_or(third, fourth), vec_splat(0x80)), pairs);
}

/* Whether v ends inside a code point, or in a byte that no text has. */
WS_INLINE int utf8_open(vec v)
{
    return vec_any(vec_subs(v, vec_load(ends + sizeof ends - VEC)));
}

/* Go on with a text that stands at a boundary; `masked` (constant in each use) unmasks it first,
 * from src into dst, with `key` for src[0]. Returns what ws_kernels.validate does. */
WS_INLINE size_t walk(ws_utf8 *state, uint8_t *dst, const uint8_t *src, size_t len, uint32_t key, const int masked)
{
    const vec wide = vec_key(key);
    vec before = vec_zero();
    int open = 0;  /* whether `before` ends inside a code point */
    size_t i = 0;  /* all before it is valid, but for what `open` says */
    size_t done;   /* and all before this is unmasked, where an error must be in [i, done) */

    for (; len - i >= STEP; i += STEP) {
        vec v[STEP_VECS], all = vec_zero();
        EACH_VEC {
            v[k] = vec_load(src + i + k * VEC);
            if (masked) {
                v[k] = vec_xor(v[k], wide);
                vec_store(dst + i + k * VEC, v[k]);
            }
            all = vec_or(all, v[k]);
        }
        done = i + STEP;
        if (!vec_any_high(all)) {
            if (open)
                goto byte_by_byte;
        } else {
            vec errors = vec_zero();
            EACH_VEC errors = vec_or(errors, utf8_errors(v[k], k == 0 ? before : v[k - 1]));
            if (vec_any(errors))
                goto byte_by_byte;
            state->non_ascii = 1;
            open = utf8_open(v[STEP_VECS - 1]);
        }
        before = v[STEP_VECS - 1];
    }
    while (i < len) {
        const size_t size = len - i < VEC ? len - i : VEC;
        vec v;
        if (size < VEC) {
            /* Zeroes behind the end: a code point that it cuts off shows as an error. */
            v = vec_part(masked ? dst + i : NULL, src + i, size, masked ? key : 0);
        } else {
            v = vec_load(src + i);
            if (masked) {
                v = vec_xor(v, wide);
                vec_store(dst + i, v);
            }
        }
        if (vec_any_high(v) || open) {
            if (vec_any(utf8_errors(v, before))) {
                done = i + size;
                goto byte_by_byte;
            }
            state->non_ascii = 1;
            open = size == VEC && utf8_open(v);
        }
        before = v;
        i += size;
    }
    if (!open)
        return len;
    done = len;
byte_by_byte:
    i = ws_utf8_resume(masked ? dst : src, i);
    return i + ws_utf8_scalar(state, (masked ? dst : src) + i, done - i);
}

WS_TARGET static void unmask(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t key[4], unsigned phase)
{
    const uint32_t turned = ws_key_load(key, phase);
    if (len < VEC) {
        if (len > 0)
            (void)vec_part(dst, src, len, turned);
        return;
    }
    /* The last vector overlaps the one before it: loaded first, so that in place nothing is
     * unmasked twice. */
    const vec wide = vec_key(turned);
    const vec last = vec_xor(vec_load(src + len - VEC), vec_key(ws_key_turn(turned, len)));
    size_t i = 0;
    for (; len - i > 4 * VEC; i += 4 * VEC) {
        const vec a = vec_xor(vec_load(src + i), wide);
        const vec b = vec_xor(vec_load(src + i + VEC), wide);
        const vec c = vec_xor(vec_load(src + i + 2 * VEC), wide);
        const vec d = vec_xor(vec_load(src + i + 3 * VEC), wide);
        vec_store(dst + i, a);
        vec_store(dst + i + VEC, b);
        vec_store(dst + i + 2 * VEC, c);
        vec_store(dst + i + 3 * VEC, d);
    }
    for (; len - i > VEC; i += VEC)
        vec_store(dst + i, vec_xor(vec_load(src + i), wide));
    vec_store(dst + len - VEC, last);
}

WS_TARGET static size_t validate(ws_utf8 *state, const uint8_t *src, size_t len)
{
    size_t i = 0;
    /* The code point that the last piece cut off: 3 bytes at most. */
    for (; i < len && state->dfa != 0; i++) {
        if (ws_utf8_scalar(state, src + i, 1) == 0)
            return i;
    }
    return i + walk(state, NULL, src + i, len - i, 0, 0);
}

WS_TARGET static size_t unmask_validate(ws_utf8 *state, uint8_t *dst, const uint8_t *src, size_t len,
                                        const uint8_t key[4], unsigned phase)
{
    const uint32_t turned = ws_key_load(key, phase);
    size_t i = 0;
    /* The code point that the last piece cut off: 3 bytes at most. */
    for (; i < len && state->dfa != 0; i++) {
        dst[i] = (uint8_t)(src[i] ^ turned >> 8 * i);
        if (ws_utf8_scalar(state, dst + i, 1) == 0)
            return i;
    }
    return i + walk(state, dst + i, src + i, len - i, ws_key_turn(turned, i), 1);
}

const ws_kernels WS_SET = {WS_NAME, unmask, validate, unmask_validate};
