/* 256-bit vectors on x86: AVX2. */
#include "ws_scalar.h"

#if defined(__x86_64__) || defined(WS_EMULATE_X86)
#ifndef WS_EMULATE_X86
#include <immintrin.h>
#define WS_TARGET __attribute__((target("avx2")))
#else
#define WS_TARGET
#endif
#define WS_SET avx2
#define WS_NAME "avx2"
#define VEC ((size_t)32)
typedef __m256i vec;

#define INLINE WS_TARGET static inline
INLINE vec vec_load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
INLINE void vec_store(uint8_t *p, vec v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }
INLINE vec vec_xor(vec v, vec w) { return _mm256_xor_si256(v, w); }
INLINE vec vec_or(vec v, vec w) { return _mm256_or_si256(v, w); }
INLINE vec vec_and(vec v, vec w) { return _mm256_and_si256(v, w); }
INLINE vec vec_zero(void) { return _mm256_setzero_si256(); }
INLINE vec vec_key(uint32_t key) { return _mm256_set1_epi32((int)key); }
INLINE vec vec_splat(uint8_t byte) { return _mm256_set1_epi8((char)byte); }
INLINE int vec_any_high(vec v) { return _mm256_movemask_epi8(v); }
INLINE int vec_is_zero(vec v) { return _mm256_testz_si256(v, v); }
INLINE vec vec_shr4(vec v) { return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(0x0F)); }
INLINE vec vec_lookup(const uint8_t *table, vec v)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table)), v);
}
/* The last 16 bytes of `before`, then the first 16 of v: alignr works within 128-bit halves. */
INLINE vec vec_straddle(vec v, vec before) { return _mm256_permute2x128_si256(before, v, 0x21); }
INLINE vec vec_prev1(vec v, vec before) { return _mm256_alignr_epi8(v, vec_straddle(v, before), 15); }
INLINE vec vec_prev2(vec v, vec before) { return _mm256_alignr_epi8(v, vec_straddle(v, before), 14); }
INLINE vec vec_prev3(vec v, vec before) { return _mm256_alignr_epi8(v, vec_straddle(v, before), 13); }
INLINE vec vec_subs(vec v, vec w) { return _mm256_subs_epu8(v, w); }
INLINE vec vec_gt0(vec v)
{
    return _mm256_xor_si256(_mm256_cmpeq_epi8(v, _mm256_setzero_si256()), _mm256_set1_epi8(-1));
}

#include "ws_vector_body.h"
#else
typedef int ws_avx2_not_here;
#endif
