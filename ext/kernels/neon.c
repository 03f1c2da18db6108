/* 128-bit vectors on AArch64, where every CPU has them. */
#include "ws_scalar.h"

#if defined(__aarch64__) || defined(WS_EMULATE_ARM)
#ifndef WS_EMULATE_ARM
#include <arm_neon.h>
#endif
#define WS_TARGET
#define WS_SET neon
#define WS_NAME "neon"
#define VEC ((size_t)16)
typedef uint8x16_t vec;

#define INLINE static inline
INLINE vec vec_load(const uint8_t *p) { return vld1q_u8(p); }
INLINE void vec_store(uint8_t *p, vec v) { vst1q_u8(p, v); }
INLINE vec vec_xor(vec v, vec w) { return veorq_u8(v, w); }
INLINE vec vec_or(vec v, vec w) { return vorrq_u8(v, w); }
INLINE vec vec_and(vec v, vec w) { return vandq_u8(v, w); }
INLINE vec vec_zero(void) { return vdupq_n_u8(0); }
INLINE vec vec_key(uint32_t key) { return vreinterpretq_u8_u32(vdupq_n_u32(key)); }
INLINE vec vec_splat(uint8_t byte) { return vdupq_n_u8(byte); }
INLINE int vec_any_high(vec v) { return vmaxvq_u8(v) >= 0x80; }
INLINE int vec_is_zero(vec v) { return vmaxvq_u8(v) == 0; }
INLINE vec vec_shr4(vec v) { return vshrq_n_u8(v, 4); }
INLINE vec vec_lookup(const uint8_t *table, vec v) { return vqtbl1q_u8(vld1q_u8(table), v); }
INLINE vec vec_prev1(vec v, vec before) { return vextq_u8(before, v, 15); }
INLINE vec vec_prev2(vec v, vec before) { return vextq_u8(before, v, 14); }
INLINE vec vec_prev3(vec v, vec before) { return vextq_u8(before, v, 13); }
INLINE vec vec_subs(vec v, vec w) { return vqsubq_u8(v, w); }
INLINE vec vec_gt0(vec v) { return vtstq_u8(v, v); }

#include "ws_vector_body.h"
#else
typedef int ws_neon_not_here;
#endif
