/* What is counted: latencies, and errors by name. */
#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "load.h"

enum { BUCKET_BITS = 10 };

static inline uint64_t clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static inline void record(uint64_t buckets[BUCKETS], uint64_t ns, uint64_t count) {
    int shift = 63 - BUCKET_BITS - __builtin_clzll(ns | 1);
    if (shift < 0) shift = 0;
    size_t bucket = ((size_t)shift << BUCKET_BITS) + (size_t)(ns >> shift);
    buckets[bucket < BUCKETS ? bucket : BUCKETS - 1] += count;
}
