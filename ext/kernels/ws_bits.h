/* Words in from any address, and bits out in DEFLATE's order, RFC 1951 3.1.1: the first one lowest. */
#ifndef WS_BITS_H
#define WS_BITS_H

#include <stdint.h>
#include <string.h>

static inline uint64_t little_endian64(uint64_t word)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

/* Eight bytes, the first one lowest. */
static inline uint64_t load64(const uint8_t *src)
{
    uint64_t word;
    memcpy(&word, src, 8);
    return little_endian64(word);
}

static inline uint32_t load32(const uint8_t *src)
{
    uint32_t word;
    memcpy(&word, src, 4);
    return word;
}

typedef struct {
    uint8_t *at, *end;
    uint64_t bits; /* not yet stored, the first one lowest */
    unsigned held; /* how many, less than 8 between two calls of put */
} writer;

/* The caller has made sure that the bits fit, at most 56 of them; roomy: and eight bytes more. */
static inline void put_bits(writer *out, uint64_t bits, unsigned count, int roomy)
{
    out->bits |= bits << out->held;
    out->held += count;
    if (roomy || out->end - out->at >= 8) {
        const uint64_t word = little_endian64(out->bits);
        memcpy(out->at, &word, 8);
    } else {
        for (unsigned i = 0; i < out->held / 8; i++)
            out->at[i] = (uint8_t)(out->bits >> 8 * i);
    }
    out->at += out->held / 8;
    out->bits >>= out->held & 56;
    out->held &= 7;
}

static inline void put(writer *out, uint64_t bits, unsigned count)
{
    put_bits(out, bits, count, 0);
}

static void put_padding(writer *out)
{
    put(out, 0, -out->held & 7);
}

#endif
