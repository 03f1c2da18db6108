/* UTF-8 a byte at a time, RFC 3629: the reference, and what the vector sets fall back to at the
 * ends of a piece and to find the exact byte at which a text goes wrong.
 *
 * The state says which bytes may come next. Two facts make it small: only the byte behind E0, ED,
 * F0 and F4 is restricted further than to 80..BF, and after it 0 to 2 plain continuations follow.
 */
#ifndef WS_SCALAR_H
#define WS_SCALAR_H

#include <string.h>

#include "ws_kernels.h"

/* state->dfa: 0, or low << 16 | high << 8 | continuations to come (1 to 3), where low..high is
 * the range of the next byte. */
static inline uint32_t ws_utf8_expect(unsigned low, unsigned high, unsigned more)
{
    return (uint32_t)low << 16 | (uint32_t)high << 8 | more;
}

/* What may follow a first byte >= 0x80; 0: it may not stand there. */
static inline uint32_t ws_utf8_lead(uint8_t byte)
{
    if (byte < 0xC2) /* a continuation, or an overlong form */
        return 0;
    if (byte < 0xE0)
        return ws_utf8_expect(0x80, 0xBF, 1);
    if (byte < 0xF0) /* E0: overlong below A0; ED: surrogates from A0 */
        return ws_utf8_expect(byte == 0xE0 ? 0xA0 : 0x80, byte == 0xED ? 0x9F : 0xBF, 2);
    if (byte < 0xF5) /* F0: overlong below 90; F4: past U+10FFFF from 90 */
        return ws_utf8_expect(byte == 0xF0 ? 0x90 : 0x80, byte == 0xF4 ? 0x8F : 0xBF, 3);
    return 0;
}

/* The bytes of src[0..size) before the first whole word of eight that is not pure ASCII. */
static inline size_t ws_ascii_words(const uint8_t *src, size_t size)
{
    size_t i = 0;
    for (uint64_t word; size - i >= 8; i += 8) {
        memcpy(&word, src + i, 8);
        if (word & 0x8080808080808080u)
            break;
    }
    return i;
}

/* What ws_kernels.validate does. */
static inline size_t ws_utf8_scalar(ws_utf8 *state, const uint8_t *src, size_t len)
{
    uint32_t dfa = state->dfa;
    size_t i = 0;
    while (i < len) {
        const uint8_t byte = src[i];
        if (dfa != 0) {
            if (byte < (dfa >> 16) || byte > (dfa >> 8 & 0xFF))
                return i;
            dfa = (dfa & 0xFF) == 1 ? 0 : ws_utf8_expect(0x80, 0xBF, (dfa & 0xFF) - 1);
        } else if (byte >= 0x80) {
            dfa = ws_utf8_lead(byte);
            if (dfa == 0)
                return i;
            state->non_ascii = 1;
        } else {
            i += ws_ascii_words(src + i, len - i);
            while (i < len && src[i] < 0x80)
                i++;
            continue;
        }
        i++;
    }
    state->dfa = dfa;
    return len;
}

/* Where to resume byte by byte so as to judge src[at]: `at`, or up to 3 bytes before it, where the
 * code point begins that src[0..at) cuts off. src[0..at) begins at a boundary and is valid so far,
 * but that its last byte may be one that no text has. */
static inline size_t ws_utf8_resume(const uint8_t *src, size_t at)
{
    for (size_t back = 1; back <= 3 && back <= at; back++) {
        const uint8_t byte = src[at - back];
        if ((byte & 0xC0) != 0x80) {
            const size_t size = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
            return size > back ? at - back : at;
        }
    }
    return at;
}

#endif
