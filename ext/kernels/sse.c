/* 128-bit vectors on x86: SSE4.1, in every x86-64 CPU since 2008. */
typedef int ws_sse_needs_x86_64; /* ISO C wants a declaration in every file */

#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define WS_SET ws_kernels_sse
#define WS_NAME "sse"
#define WS_TARGET __attribute__((target("sse4.1")))
#define VEC ((size_t)16)
typedef __m128i vec;

#include "ws_short.h"

#define OP WS_TARGET static inline __attribute__((always_inline))
OP vec vec_load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
OP void vec_store(uint8_t *p, vec v) { _mm_storeu_si128((__m128i *)(void *)p, v); }
OP vec vec_zero(void) { return _mm_setzero_si128(); }
OP vec vec_key(uint32_t key) { return _mm_set1_epi32((int)key); }
OP vec vec_splat(uint8_t byte) { return _mm_set1_epi8((char)byte); }
OP vec vec_table(const uint8_t *table) { return vec_load(table); }
OP vec vec_lookup(vec table, vec v) { return _mm_shuffle_epi8(table, v); }
OP vec vec_and(vec v, vec w) { return _mm_and_si128(v, w); }
OP vec vec_or(vec v, vec w) { return _mm_or_si128(v, w); }
OP vec vec_xor(vec v, vec w) { return _mm_xor_si128(v, w); }
OP vec vec_subs(vec v, vec w) { return _mm_subs_epu8(v, w); }
OP vec vec_shr4(vec v) { return vec_and(_mm_srli_epi16(v, 4), vec_splat(0x0F)); }
OP vec vec_before1(vec v, vec before) { return _mm_alignr_epi8(v, before, 15); }
OP vec vec_before2(vec v, vec before) { return _mm_alignr_epi8(v, before, 14); }
OP vec vec_before3(vec v, vec before) { return _mm_alignr_epi8(v, before, 13); }
OP int vec_any_high(vec v) { return _mm_movemask_epi8(v); }
OP int vec_any(vec v) { return !_mm_testz_si128(v, v); }
OP vec vec_part(uint8_t *dst, const uint8_t *src, size_t size, uint32_t key)
{
    const ws_pair part = ws_part(dst, src, size, key);
    return _mm_set_epi64x((long long)part.high, (long long)part.low);
}

#include "ws_vector_body.h"
#endif
