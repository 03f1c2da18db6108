/* Every set by name, for dispatch.c and the files that define them. */
#ifndef WS_SETS_H
#define WS_SETS_H

#include "ws_kernels.h"

extern const ws_kernels ws_kernels_scalar;
extern const ws_kernels ws_kernels_sse;    /* x86-64 */
extern const ws_kernels ws_kernels_avx2;   /* x86-64 */
extern const ws_kernels ws_kernels_avx512; /* x86-64 */
extern const ws_kernels ws_kernels_neon;   /* AArch64, little-endian */

#endif
