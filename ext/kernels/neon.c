/* 128-bit vectors on AArch64, where every CPU has them. */
typedef int ws_neon_needs_aarch64; /* ISO C wants a declaration in every file */

#if (defined(__aarch64__) && !defined(__AARCH64EB__)) || defined(WS_EMULATED)
#include <stdint.h>
#ifndef WS_EMULATED /* the tests bring the intrinsics as portable C, for other CPUs */
#include <arm_neon.h>
#endif

#define WS_SET ws_kernels_neon
#define WS_NAME "neon"
#define WS_TARGET
#define VEC ((size_t)16)
typedef uint8x16_t vec;

#include "ws_short.h"

#define OP static inline __attribute__((always_inline))
OP vec vec_load(const uint8_t *p) { return vld1q_u8(p); }
OP void vec_store(uint8_t *p, vec v) { vst1q_u8(p, v); }
OP vec vec_zero(void) { return vdupq_n_u8(0); }
OP vec vec_key(uint32_t key) { return vreinterpretq_u8_u32(vdupq_n_u32(key)); }
OP vec vec_splat(uint8_t byte) { return vdupq_n_u8(byte); }
OP vec vec_table(const uint8_t *table) { return vec_load(table); }
OP vec vec_lookup(vec table, vec v) { return vqtbl1q_u8(table, v); }
OP vec vec_and(vec v, vec w) { return vandq_u8(v, w); }
OP vec vec_or(vec v, vec w) { return vorrq_u8(v, w); }
OP vec vec_xor(vec v, vec w) { return veorq_u8(v, w); }
OP vec vec_subs(vec v, vec w) { return vqsubq_u8(v, w); }
OP vec vec_shr4(vec v) { return vshrq_n_u8(v, 4); }
OP vec vec_before1(vec v, vec before) { return vextq_u8(before, v, 15); }
OP vec vec_before2(vec v, vec before) { return vextq_u8(before, v, 14); }
OP vec vec_before3(vec v, vec before) { return vextq_u8(before, v, 13); }
OP int vec_any_high(vec v) { return vmaxvq_u8(v) >= 0x80; }
OP int vec_any(vec v) { return vmaxvq_u8(v) != 0; }
OP vec vec_part(uint8_t *dst, const uint8_t *src, size_t size, uint32_t key)
{
    const ws_pair part = ws_part(dst, src, size, key);
    return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(part.low), vcreate_u64(part.high)));
}

#include "ws_vector_body.h"
#endif
