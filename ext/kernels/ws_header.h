/* Frame headers, RFC 6455 5.2: decode and encode. Plain C, no allocation.
 *
 * Every rule that can be judged from the header's own bytes is judged here, and in the
 * order of the bytes, so that the verdict does not depend on how a stream is split. What
 * depends on the message that a frame belongs to is judged in _protocol.
 */
#ifndef WS_HEADER_H
#define WS_HEADER_H

#include <stddef.h>
#include <stdint.h>

#define WS_HEADER_MAX 14  /* 2 + 8 of length + 4 of masking key */
#define WS_CONTROL_MAX 125 /* RFC 6455 5.5 */

enum { WS_CONT = 0x0, WS_TEXT = 0x1, WS_BINARY = 0x2, WS_CLOSE = 0x8, WS_PING = 0x9, WS_PONG = 0xA };

typedef struct {
    uint64_t length;
    uint8_t key[4];
    uint8_t opcode;
    uint8_t fin;
    uint8_t rsv;    /* RSV1-3 as the bits 4, 2, 1 */
    uint8_t masked;
} ws_header;

/* What ws_header_decode refuses; each is a protocol error (1002). */
enum {
    WS_BAD_RSV = -1,
    WS_BAD_OPCODE = -2,
    WS_FRAGMENTED_CONTROL = -3,
    WS_NOT_MASKED = -4,
    WS_MASKED = -5,
    WS_LONG_CONTROL = -6,
    WS_NOT_MINIMAL = -7,
    WS_LENGTH_MSB = -8
};

/* Decode the header at src[0..len).
 * rsv_allowed: the RSV bits that a negotiated extension may set on a data frame.
 * masked: 1 when the peer must mask (it is a client), 0 when it must not, RFC 6455 5.1.
 * Returns its size, 2 to 14; 0 when it does not end within len; < 0, one of the above. */
static inline int ws_header_decode(const uint8_t *src, size_t len, unsigned rsv_allowed, unsigned masked,
                                   ws_header *header)
{
    if (len == 0)
        return 0;
    const unsigned first = src[0], opcode = first & 0x0F, rsv = (first >> 4) & 7;
    if (rsv & (opcode & 8 ? 7u : ~rsv_allowed))
        return WS_BAD_RSV;
    if ((0x0707 >> opcode & 1) == 0) /* 0-2 and 8-A are defined */
        return WS_BAD_OPCODE;
    if ((opcode & 8) && !(first & 0x80))
        return WS_FRAGMENTED_CONTROL;
    if (len == 1)
        return 0;
    const unsigned second = src[1], short_length = second & 0x7F;
    if ((second >> 7) != masked)
        return masked ? WS_NOT_MASKED : WS_MASKED;
    size_t size = 2;
    uint64_t length = short_length;
    if (short_length > WS_CONTROL_MAX) {
        if (opcode & 8)
            return WS_LONG_CONTROL;
        const size_t extra = short_length == 126 ? 2 : 8;
        if (len < 2 + extra)
            return 0;
        length = 0;
        for (size_t i = 0; i < extra; i++)
            length = length << 8 | src[2 + i];
        /* "the minimal number of bytes MUST be used", and the most significant bit of 64
         * "MUST be 0" */
        if (length >> 63)
            return WS_LENGTH_MSB;
        if (length < (extra == 2 ? 126u : 65536u))
            return WS_NOT_MINIMAL;
        size += extra;
    }
    if (masked) {
        if (len < size + 4)
            return 0;
        for (int i = 0; i < 4; i++)
            header->key[i] = src[size + (size_t)i];
        size += 4;
    }
    header->length = length;
    header->opcode = (uint8_t)opcode;
    header->fin = (uint8_t)(first >> 7);
    header->rsv = (uint8_t)rsv;
    header->masked = (uint8_t)masked;
    return (int)size;
}

/* Write the header of an unmasked frame into dst[0..10).
 * first: FIN, RSV and opcode as they go out. Returns its size: 2, 4 or 10. */
static inline unsigned ws_header_encode(uint8_t *dst, unsigned first, uint64_t length)
{
    dst[0] = (uint8_t)first;
    if (length < 126) {
        dst[1] = (uint8_t)length;
        return 2;
    }
    const unsigned extra = length < 65536 ? 2 : 8;
    dst[1] = extra == 2 ? 126 : 127;
    for (unsigned i = 0; i < extra; i++)
        dst[2 + i] = (uint8_t)(length >> (8 * (extra - 1 - i)));
    return 2 + extra;
}

/* May an endpoint put code into a Close frame? RFC 6455 7.4 and the IANA registry behind
 * it: 1004 is reserved, 1005, 1006 and 1015 must not be sent, 1016-2999 are unassigned. */
static inline int ws_close_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

#endif
