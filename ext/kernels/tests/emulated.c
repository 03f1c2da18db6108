/* The sets that this CPU may lack, their intrinsics as portable C: SIMDe, Debian's libsimde-dev.
 * The portable forms are used even where the compiler could do better. */
#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#define WS_EMULATED

#if defined(EMULATE_AVX512)
#include <simde/x86/avx512.h>

/* What SIMDe 0.7.4 lacks. The masked ones touch the bytes of their mask and no others. */
#define _mm512_maskz_loadu_epi8 emulated_maskz_loadu
#define _mm512_mask_storeu_epi8 emulated_mask_storeu
#define _mm512_alignr_epi8 emulated_alignr

static inline simde__m512i emulated_maskz_loadu(simde__mmask64 mask, const uint8_t *p)
{
    uint8_t bytes[64] = {0};
    for (unsigned k = 0; k < 64; k++)
        if (mask >> k & 1)
            bytes[k] = p[k];
    return simde_mm512_loadu_si512(bytes);
}

static inline void emulated_mask_storeu(uint8_t *p, simde__mmask64 mask, simde__m512i v)
{
    uint8_t bytes[64];
    simde_mm512_storeu_si512(bytes, v);
    for (unsigned k = 0; k < 64; k++)
        if (mask >> k & 1)
            p[k] = bytes[k];
}

/* Within each 16 bytes: v above w, moved down by `count` bytes. */
static inline simde__m512i emulated_alignr(simde__m512i v, simde__m512i w, unsigned count)
{
    uint8_t above[64], below[64], out[64];
    simde_mm512_storeu_si512(above, v);
    simde_mm512_storeu_si512(below, w);
    for (unsigned k = 0; k < 64; k++) {
        const unsigned from = k % 16 + count, lane = k - k % 16;
        out[k] = from < 16 ? below[lane + from] : from < 32 ? above[lane + from - 16] : 0;
    }
    return simde_mm512_loadu_si512(out);
}

#include "../avx512.c"
#elif defined(EMULATE_NEON)
#include <simde/arm/neon.h>

#include "../neon.c"
#else
#error "define EMULATE_AVX512 or EMULATE_NEON"
#endif
