/* 512-bit vectors on x86: AVX-512 F and BW. */
#include "ws_scalar.h"

#if defined(__x86_64__) || defined(WS_EMULATE_X86)
#ifndef WS_EMULATE_X86
#include <immintrin.h>
#define WS_TARGET __attribute__((target("avx512f,avx512bw")))
#else
#define WS_TARGET
#endif
#define WS_SET avx512
#define WS_NAME "avx512"
#define VEC ((size_t)64)
typedef __m512i vec;

#define INLINE WS_TARGET static inline
INLINE vec vec_load(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }
INLINE void vec_store(uint8_t *p, vec v) { _mm512_storeu_si512((void *)p, v); }
INLINE vec vec_xor(vec v, vec w) { return _mm512_xor_si512(v, w); }
INLINE vec vec_or(vec v, vec w) { return _mm512_or_si512(v, w); }
INLINE vec vec_and(vec v, vec w) { return _mm512_and_si512(v, w); }
INLINE vec vec_zero(void) { return _mm512_setzero_si512(); }
INLINE vec vec_key(uint32_t key) { return _mm512_set1_epi32((int)key); }
INLINE vec vec_splat(uint8_t byte) { return _mm512_set1_epi8((char)byte); }
INLINE int vec_any_high(vec v) { return _mm512_movepi8_mask(v) != 0; }
INLINE int vec_is_zero(vec v) { return _mm512_test_epi8_mask(v, v) == 0; }
INLINE vec vec_shr4(vec v) { return _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(0x0F)); }
INLINE vec vec_lookup(const uint8_t *table, vec v)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), v);
}
/* The last 16 bytes of `before`, then the first 48 of v: alignr works within 128-bit lanes. */
INLINE vec vec_straddle(vec v, vec before)
{
    const vec which = _mm512_set_epi64(13, 12, 11, 10, 9, 8, 7, 6);
    return _mm512_permutex2var_epi64(before, which, v);
}
INLINE vec vec_prev1(vec v, vec before) { return _mm512_alignr_epi8(v, vec_straddle(v, before), 15); }
INLINE vec vec_prev2(vec v, vec before) { return _mm512_alignr_epi8(v, vec_straddle(v, before), 14); }
INLINE vec vec_prev3(vec v, vec before) { return _mm512_alignr_epi8(v, vec_straddle(v, before), 13); }
INLINE vec vec_subs(vec v, vec w) { return _mm512_subs_epu8(v, w); }
INLINE vec vec_gt0(vec v) { return _mm512_movm_epi8(_mm512_test_epi8_mask(v, v)); }

#include "ws_vector_body.h"
#else
typedef int ws_avx512_not_here;
#endif
