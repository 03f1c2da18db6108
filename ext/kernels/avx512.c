/* 512-bit vectors on x86: AVX-512 F and BW. */
typedef int ws_avx512_needs_x86_64; /* ISO C wants a declaration in every file */

#if defined(__x86_64__)
#include <stdint.h>
#ifndef WS_EMULATED /* the tests bring the intrinsics as portable C, for CPUs without them */
#include <immintrin.h>
#define WS_TARGET __attribute__((target("avx512f,avx512bw")))
#else
#define WS_TARGET
#endif

#define WS_SET ws_kernels_avx512
#define WS_NAME "avx512"
#define VEC ((size_t)64)
typedef __m512i vec;

#include "ws_short.h"

#define OP WS_TARGET static inline __attribute__((always_inline))
OP vec vec_load(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }
OP void vec_store(uint8_t *p, vec v) { _mm512_storeu_si512((void *)p, v); }
OP vec vec_zero(void) { return _mm512_setzero_si512(); }
OP vec vec_key(uint32_t key) { return _mm512_set1_epi32((int)key); }
OP vec vec_splat(uint8_t byte) { return _mm512_set1_epi8((char)byte); }
OP vec vec_table(const uint8_t *table)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table));
}
OP vec vec_lookup(vec table, vec v) { return _mm512_shuffle_epi8(table, v); }
OP vec vec_and(vec v, vec w) { return _mm512_and_si512(v, w); }
OP vec vec_or(vec v, vec w) { return _mm512_or_si512(v, w); }
OP vec vec_xor(vec v, vec w) { return _mm512_xor_si512(v, w); }
OP vec vec_subs(vec v, vec w) { return _mm512_subs_epu8(v, w); }
OP vec vec_shr4(vec v) { return vec_and(_mm512_srli_epi16(v, 4), vec_splat(0x0F)); }
/* The last 16 bytes of `before`, then the first 48 of v: alignr works within each quarter. */
OP vec vec_straddle(vec v, vec before)
{
    return _mm512_permutex2var_epi64(before, _mm512_set_epi64(13, 12, 11, 10, 9, 8, 7, 6), v);
}
OP vec vec_before1(vec v, vec before) { return _mm512_alignr_epi8(v, vec_straddle(v, before), 15); }
OP vec vec_before2(vec v, vec before) { return _mm512_alignr_epi8(v, vec_straddle(v, before), 14); }
OP vec vec_before3(vec v, vec before) { return _mm512_alignr_epi8(v, vec_straddle(v, before), 13); }
OP int vec_any_high(vec v) { return _mm512_movepi8_mask(v) != 0; }
OP int vec_any(vec v) { return _mm512_test_epi8_mask(v, v) != 0; }
OP vec vec_part(uint8_t *dst, const uint8_t *src, size_t size, uint32_t key)
{
    const uint64_t inside = ~(uint64_t)0 >> (64 - size);
    const vec v = vec_xor(_mm512_maskz_loadu_epi8(inside, src), vec_key(key));
    if (dst != NULL)
        _mm512_mask_storeu_epi8(dst, inside, v);
    return _mm512_maskz_mov_epi8(inside, v);
}

#include "ws_vector_body.h"
#endif
