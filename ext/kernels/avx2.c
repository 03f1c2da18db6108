/* 256-bit vectors on x86: AVX2. */
typedef int ws_avx2_needs_x86_64; /* ISO C wants a declaration in every file */

#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define WS_SET ws_kernels_avx2
#define WS_NAME "avx2"
#define WS_TARGET __attribute__((target("avx2")))
#define VEC ((size_t)32)
typedef __m256i vec;

#include "ws_short.h"

#define OP WS_TARGET static inline __attribute__((always_inline))
OP __m128i half_load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
OP void half_store(uint8_t *p, __m128i v) { _mm_storeu_si128((__m128i *)(void *)p, v); }
OP vec vec_load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
OP void vec_store(uint8_t *p, vec v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }
OP vec vec_zero(void) { return _mm256_setzero_si256(); }
OP vec vec_key(uint32_t key) { return _mm256_set1_epi32((int)key); }
OP vec vec_splat(uint8_t byte) { return _mm256_set1_epi8((char)byte); }
OP vec vec_table(const uint8_t *table) { return _mm256_broadcastsi128_si256(half_load(table)); }
OP vec vec_lookup(vec table, vec v) { return _mm256_shuffle_epi8(table, v); }
OP vec vec_and(vec v, vec w) { return _mm256_and_si256(v, w); }
OP vec vec_or(vec v, vec w) { return _mm256_or_si256(v, w); }
OP vec vec_xor(vec v, vec w) { return _mm256_xor_si256(v, w); }
OP vec vec_subs(vec v, vec w) { return _mm256_subs_epu8(v, w); }
OP vec vec_shr4(vec v) { return vec_and(_mm256_srli_epi16(v, 4), vec_splat(0x0F)); }
/* The last 16 bytes of `before`, then the first 16 of v: alignr works within each half. */
OP vec vec_straddle(vec v, vec before) { return _mm256_permute2x128_si256(before, v, 0x21); }
OP vec vec_before1(vec v, vec before) { return _mm256_alignr_epi8(v, vec_straddle(v, before), 15); }
OP vec vec_before2(vec v, vec before) { return _mm256_alignr_epi8(v, vec_straddle(v, before), 14); }
OP vec vec_before3(vec v, vec before) { return _mm256_alignr_epi8(v, vec_straddle(v, before), 13); }
OP int vec_any_high(vec v) { return _mm256_movemask_epi8(v); }
OP int vec_any(vec v) { return !_mm256_testz_si256(v, v); }

/* From entry n on: moves 16 bytes down by n, zeroes behind them. */
static const uint8_t down[32] = {
    0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
};

OP vec vec_part(uint8_t *dst, const uint8_t *src, size_t size, uint32_t key)
{
    if (size < 16) {
        const ws_pair part = ws_part(dst, src, size, key);
        return _mm256_set_epi64x(0, 0, (long long)part.high, (long long)part.low);
    }
    /* Two halves that overlap, both loaded before either is stored. */
    const __m128i first = _mm_xor_si128(half_load(src), _mm_set1_epi32((int)key));
    const __m128i last = _mm_xor_si128(half_load(src + size - 16), _mm_set1_epi32((int)ws_key_turn(key, size)));
    if (dst != NULL) {
        half_store(dst, first);
        half_store(dst + size - 16, last);
    }
    return _mm256_set_m128i(_mm_shuffle_epi8(last, half_load(down + (32 - size))), first);
}

#include "ws_vector_body.h"
#endif
