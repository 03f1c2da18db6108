/* Pieces shorter than a vector, and the key as a word. Little-endian, as the vector sets are. */
#ifndef WS_SHORT_H
#define WS_SHORT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The key from payload offset `phase` on, first byte lowest. */
static inline uint32_t ws_key_turn(uint32_t key, size_t phase)
{
    const unsigned bits = 8 * (unsigned)(phase & 3);
    return key >> bits | key << (-bits & 31);
}

static inline uint32_t ws_key_load(const uint8_t key[4], unsigned phase)
{
    uint32_t word;
    memcpy(&word, key, 4);
    return ws_key_turn(word, phase);
}

/* Up to 16 bytes, first byte lowest. */
typedef struct {
    uint64_t low, high;
} ws_pair;

/* XOR src[0..size) with the key, 0 < size < 16, into dst unless that is NULL.
 * Returns the result, zeroes behind it. dst == src, or the two do not overlap.
 * Two words that overlap take the place of a loop over bytes; both are loaded before either is
 * stored, so that in place nothing is unmasked twice. */
static inline ws_pair ws_part(uint8_t *dst, const uint8_t *src, size_t size, uint32_t key)
{
    ws_pair out = {0, 0};
    if (size >= 8) {
        uint64_t first, last;
        const uint32_t turned = ws_key_turn(key, size);
        memcpy(&first, src, 8);
        memcpy(&last, src + size - 8, 8);
        first ^= (uint64_t)key << 32 | key;
        last ^= (uint64_t)turned << 32 | turned;
        if (dst != NULL) {
            memcpy(dst, &first, 8);
            memcpy(dst + size - 8, &last, 8);
        }
        out.low = first;
        out.high = last >> 8 * (15 - size) >> 8; /* in two steps: size 8 shifts by 64 */
    } else if (size >= 4) {
        uint32_t first, last;
        memcpy(&first, src, 4);
        memcpy(&last, src + size - 4, 4);
        first ^= key;
        last ^= ws_key_turn(key, size);
        if (dst != NULL) {
            memcpy(dst, &first, 4);
            memcpy(dst + size - 4, &last, 4);
        }
        out.low = first | (uint64_t)last << 8 * (size - 4);
    } else {
        const size_t middle = size / 2, end = size - 1;
        const uint8_t a = (uint8_t)(src[0] ^ key);
        const uint8_t b = (uint8_t)(src[middle] ^ key >> 8 * middle);
        const uint8_t c = (uint8_t)(src[end] ^ key >> 8 * end);
        if (dst != NULL) {
            dst[0] = a;
            dst[middle] = b;
            dst[end] = c;
        }
        out.low = a | (uint64_t)b << 8 * middle | (uint64_t)c << 8 * end;
    }
    return out;
}

#endif
