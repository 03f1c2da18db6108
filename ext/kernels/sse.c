/* 128-bit vectors on x86: SSE4.1, in every x86-64 CPU since 2008. */
#include "ws_scalar.h"

#if defined(__x86_64__) || defined(WS_EMULATE_X86)
#ifndef WS_EMULATE_X86
#include <immintrin.h>
#define WS_TARGET __attribute__((target("sse4.1")))
#else
#define WS_TARGET
#endif
#define WS_SET sse
#define WS_NAME "sse"
#define VEC ((size_t)16)
typedef __m128i vec;

#define INLINE WS_TARGET static inline
INLINE vec vec_load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
INLINE void vec_store(uint8_t *p, vec v) { _mm_storeu_si128((__m128i *)(void *)p, v); }
INLINE vec vec_xor(vec v, vec w) { return _mm_xor_si128(v, w); }
INLINE vec vec_or(vec v, vec w) { return _mm_or_si128(v, w); }
INLINE vec vec_and(vec v, vec w) { return _mm_and_si128(v, w); }
INLINE vec vec_zero(void) { return _mm_setzero_si128(); }
INLINE vec vec_key(uint32_t key) { return _mm_set1_epi32((int)key); }
INLINE vec vec_splat(uint8_t byte) { return _mm_set1_epi8((char)byte); }
INLINE int vec_any_high(vec v) { return _mm_movemask_epi8(v); }
INLINE int vec_is_zero(vec v) { return _mm_testz_si128(v, v); }
INLINE vec vec_shr4(vec v) { return _mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi8(0x0F)); }
INLINE vec vec_lookup(const uint8_t *table, vec v) { return _mm_shuffle_epi8(vec_load(table), v); }
INLINE vec vec_prev1(vec v, vec before) { return _mm_alignr_epi8(v, before, 15); }
INLINE vec vec_prev2(vec v, vec before) { return _mm_alignr_epi8(v, before, 14); }
INLINE vec vec_prev3(vec v, vec before) { return _mm_alignr_epi8(v, before, 13); }
INLINE vec vec_subs(vec v, vec w) { return _mm_subs_epu8(v, w); }
INLINE vec vec_gt0(vec v) { return _mm_xor_si128(_mm_cmpeq_epi8(v, _mm_setzero_si128()), _mm_set1_epi8(-1)); }

#include "ws_vector_body.h"
#else
typedef int ws_sse_not_here;
#endif
