/* The algorithms of the vector sets, written once. A set includes this after it has defined
 *
 *   WS_TARGET               the function attribute that enables its instructions
 *   WS_SET                  the set's name, WS_NAME the same as a string
 *   vec, VEC                the vector type, and its size in bytes
 *   vec_load, vec_store     any alignment
 *   vec_xor, vec_or
 *   vec_key(uint32_t)       the 4 bytes repeated, in memory order
 *   vec_zero()
 *   vec_any_high(v)         not 0 when a byte has its top bit set
 *   vec_is_zero(v)
 *   vec_shr4(v), vec_and(v, w), vec_splat(byte), vec_lookup(table of 16, v)
 *   vec_prev1/2/3(v, before)  v shifted by 1, 2, 3 bytes, filled from the end of `before`
 *   vec_subs(v, w)          unsigned saturating subtraction
 *   vec_gt0(v)              0x80 (at least) in each byte that is not 0
 *
 * UTF-8 is judged by the lookups of Keiser and Lemire, "Validating UTF-8 in less than one
 * instruction per byte": the high and low nibble of a byte and the high nibble of the next each
 * select a set of errors, which is an error indeed where the three sets meet.
 */

#define WS_CAT2(a, b) a##b
#define WS_CAT(a, b) WS_CAT2(a, b)

/* The errors, one bit each, by what the two bytes look like. */
#define TOO_SHORT 0x01  /* a lead, then no continuation */
#define TOO_LONG 0x02   /* ASCII, then a continuation */
#define OVERLONG_3 0x04
#define TOO_LARGE 0x08
#define SURROGATE 0x10
#define OVERLONG_2 0x20
#define TOO_LARGE_1000 0x40
#define OVERLONG_4 0x40
#define TWO_CONTS 0x80  /* two continuations: wrong unless a 3- or 4-byte lead precedes them */
#define CARRY (TOO_SHORT | TOO_LONG | TWO_CONTS)

static const uint8_t byte1_high[16] = {
    TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
    TWO_CONTS, TWO_CONTS, TWO_CONTS, TWO_CONTS,
    TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,
    TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4};
static const uint8_t byte1_low[16] = {
    CARRY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4, CARRY | OVERLONG_2, CARRY, CARRY,
    CARRY | TOO_LARGE, CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
    CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
    CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
    CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
    CARRY | TOO_LARGE | TOO_LARGE_1000 | SURROGATE, CARRY | TOO_LARGE | TOO_LARGE_1000,
    CARRY | TOO_LARGE | TOO_LARGE_1000};
static const uint8_t byte2_high[16] = {
    TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
    TOO_LONG | OVERLONG_2 | TWO_CONTS | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4,
    TOO_LONG | OVERLONG_2 | TWO_CONTS | OVERLONG_3 | TOO_LARGE,
    TOO_LONG | OVERLONG_2 | TWO_CONTS | SURROGATE | TOO_LARGE,
    TOO_LONG | OVERLONG_2 | TWO_CONTS | SURROGATE | TOO_LARGE,
    TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT};

/* Errors of `input` given the vector before it: not zero where a byte may not stand. */
WS_TARGET static inline vec utf8_errors(vec input, vec before)
{
    const vec prev1 = vec_prev1(input, before);
    const vec low = vec_and(prev1, vec_splat(0x0F));
    const vec special = vec_and(vec_and(vec_lookup(byte1_high, vec_shr4(prev1)), vec_lookup(byte1_low, low)),
                                vec_lookup(byte2_high, vec_shr4(input)));
    /* 0x80 where the second byte after an E0..FF or the third after an F0..FF must be a
     * continuation: there TWO_CONTS is right, elsewhere it is wrong. */
    const vec third = vec_subs(vec_prev2(input, before), vec_splat(0xE0 - 1));
    const vec fourth = vec_subs(vec_prev3(input, before), vec_splat(0xF0 - 1));
    const vec must = vec_and(vec_gt0(vec_or(third, fourth)), vec_splat(0x80));
    return vec_xor(must, special);
}

/* Unmask src into dst when `mask` is given, and judge as many whole vectors as are valid.
 * On entry the text stands at a boundary. Returns the offset of a code point boundary up to which
 * dst is valid; `*done` is how far it has been unmasked. */
WS_TARGET static inline size_t bulk(ws_utf8 *state, uint8_t *dst, const uint8_t *src, size_t len,
                                    const uint32_t *mask, size_t *done)
{
    const vec key = vec_key(mask ? *mask : 0);
    vec before = vec_zero();
    size_t i = 0;
    int in_ascii = 1; /* nothing before i needs a continuation at i */
    *done = 0;
    while (len - i >= VEC) {
        if (in_ascii && len - i >= 4 * VEC) {
            vec a = vec_load(src + i), b = vec_load(src + i + VEC), c = vec_load(src + i + 2 * VEC),
                d = vec_load(src + i + 3 * VEC);
            if (mask) {
                a = vec_xor(a, key), b = vec_xor(b, key), c = vec_xor(c, key), d = vec_xor(d, key);
            }
            if (!vec_any_high(vec_or(vec_or(a, b), vec_or(c, d)))) {
                if (mask) {
                    vec_store(dst + i, a), vec_store(dst + i + VEC, b), vec_store(dst + i + 2 * VEC, c),
                        vec_store(dst + i + 3 * VEC, d);
                }
                i += 4 * VEC;
                *done = i;
                before = vec_zero();
                continue;
            }
        }
        vec input = vec_load(src + i);
        if (mask) {
            input = vec_xor(input, key);
            vec_store(dst + i, input);
        }
        *done = i + VEC;
        if (!vec_any_high(input) && in_ascii) {
            before = vec_zero();
            i += VEC;
            continue;
        }
        if (!vec_is_zero(utf8_errors(input, before)))
            break;
        state->non_ascii = 1;
        before = input;
        i += VEC;
        in_ascii = !vec_any_high(input);
    }
    return ws_utf8_boundary(mask ? dst : src, 0, i);
}

WS_TARGET static void WS_CAT(unmask_, WS_SET)(uint8_t *dst, const uint8_t *src, size_t len,
                                              const uint8_t key[4], unsigned phase)
{
    uint8_t turned[4];
    for (unsigned i = 0; i < 4; i++)
        turned[i] = key[(phase + i) & 3];
    uint32_t mask;
    memcpy(&mask, turned, 4);
    const vec wide = vec_key(mask);
    size_t i = 0;
    for (; len - i >= 4 * VEC; i += 4 * VEC) {
        const vec a = vec_xor(vec_load(src + i), wide), b = vec_xor(vec_load(src + i + VEC), wide),
                  c = vec_xor(vec_load(src + i + 2 * VEC), wide), d = vec_xor(vec_load(src + i + 3 * VEC), wide);
        vec_store(dst + i, a), vec_store(dst + i + VEC, b), vec_store(dst + i + 2 * VEC, c),
            vec_store(dst + i + 3 * VEC, d);
    }
    for (; len - i >= VEC; i += VEC)
        vec_store(dst + i, vec_xor(vec_load(src + i), wide));
    const uint64_t wide8 = (uint64_t)mask << 32 | mask;
    for (; len - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, src + i, 8);
        word ^= wide8;
        memcpy(dst + i, &word, 8);
    }
    for (unsigned k = 0; i < len; i++, k++)
        dst[i] = (uint8_t)(src[i] ^ turned[k & 3]);
}

WS_TARGET static size_t WS_CAT(validate_, WS_SET)(ws_utf8 *state, const uint8_t *src, size_t len)
{
    size_t start = 0, done;
    while (start < len && state->dfa != 0) {
        if (ws_utf8_scalar(state, src + start, 1) == 0)
            return start;
        start++;
    }
    if (len - start >= VEC)
        start += bulk(state, NULL, src + start, len - start, NULL, &done);
    return start + ws_utf8_scalar(state, src + start, len - start);
}

WS_TARGET static size_t WS_CAT(unmask_validate_, WS_SET)(ws_utf8 *state, uint8_t *dst, const uint8_t *src,
                                                         size_t len, const uint8_t key[4], unsigned phase)
{
    size_t start = 0, done = 0;
    while (start < len && state->dfa != 0) {
        dst[start] = (uint8_t)(src[start] ^ key[(phase + start) & 3]);
        if (ws_utf8_scalar(state, dst + start, 1) == 0)
            return start;
        start++;
    }
    if (len - start >= VEC) {
        uint8_t turned[4];
        for (unsigned i = 0; i < 4; i++)
            turned[i] = key[(phase + start + i) & 3];
        uint32_t mask;
        memcpy(&mask, turned, 4);
        const size_t valid = bulk(state, dst + start, src + start, len - start, &mask, &done);
        done += start;
        start += valid;
    } else {
        done = start;
    }
    /* What bulk left: unmask the rest; the bytes from `start` on are judged one by one. */
    WS_CAT(unmask_, WS_SET)(dst + done, src + done, len - done, key, (unsigned)((phase + done) & 3));
    return start + ws_utf8_scalar(state, dst + start, len - start);
}

extern const ws_kernels WS_CAT(ws_kernels_, WS_SET);
const ws_kernels WS_CAT(ws_kernels_, WS_SET) = {
    WS_NAME,
    WS_CAT(unmask_, WS_SET),
    WS_CAT(validate_, WS_SET),
    WS_CAT(unmask_validate_, WS_SET),
};
