/* Picks a set for this CPU. */
#include <string.h>

#include "ws_sets.h"

const ws_kernels *const *ws_kernels_supported(void)
{
#if defined(__x86_64__)
    /* Each CPU that has one of these has all that follow it. */
    static const ws_kernels *const sets[] = {
        &ws_kernels_avx512, &ws_kernels_avx2, &ws_kernels_sse, &ws_kernels_scalar, NULL};
    /* The builtin asks the operating system, too, whether it saves the registers. */
    __builtin_cpu_init();
    /* VBMI for the generation that has it: CPUs before it lower their clock for 512-bit vectors. */
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vbmi"))
        return sets;
    if (__builtin_cpu_supports("avx2"))
        return sets + 1;
    if (__builtin_cpu_supports("sse4.1"))
        return sets + 2;
    return sets + 3;
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
    static const ws_kernels *const sets[] = {&ws_kernels_neon, &ws_kernels_scalar, NULL};
    return sets;
#else
    static const ws_kernels *const sets[] = {&ws_kernels_scalar, NULL};
    return sets;
#endif
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
