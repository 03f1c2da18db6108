/* Picks a set for this CPU. */
#include <string.h>

#include "ws_kernels.h"

extern const ws_kernels ws_kernels_scalar;
#if defined(__x86_64__)
extern const ws_kernels ws_kernels_sse, ws_kernels_avx2, ws_kernels_avx512;
#elif defined(__aarch64__)
extern const ws_kernels ws_kernels_neon;
#endif

const ws_kernels *const *ws_kernels_supported(void)
{
    static const ws_kernels *found[5];
    size_t count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    /* These ask the operating system, too, whether it saves the registers. */
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        found[count++] = &ws_kernels_avx512;
    if (__builtin_cpu_supports("avx2"))
        found[count++] = &ws_kernels_avx2;
    if (__builtin_cpu_supports("sse4.1"))
        found[count++] = &ws_kernels_sse;
#elif defined(__aarch64__)
    found[count++] = &ws_kernels_neon;
#endif
    found[count++] = &ws_kernels_scalar;
    found[count] = NULL;
    return found;
}

const ws_kernels *ws_kernels_choose(const char *name)
{
    const ws_kernels *const *set = ws_kernels_supported();
    if (name == NULL || *name == 0)
        return *set;
    while (*set != NULL && strcmp((*set)->name, name) != 0)
        set++;
    return *set;
}
