/* Sec-WebSocket-Accept: SHA-1 (RFC 3174) and base64 (RFC 4648), for one fixed input size. For the load generator and
 * the benchmarks' yardstick (benchmarks/servers/limit.c), and nothing else. */
#pragma once

#include <stdint.h>
#include <string.h>

enum { KEY_LENGTH = 24, ACCEPT_LENGTH = 28 };

static inline uint32_t rotate_left(uint32_t value, int by) { return value << by | value >> (32 - by); }

static inline void sha1_block(uint32_t state[5], const uint8_t block[64]) {
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = rotate_left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20 ? ((b & c) | (~b & d)) + 0x5A827999
                   : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                   : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                            : (b ^ c ^ d) + 0xCA62C1D6;
        uint32_t next = rotate_left(a, 5) + f + e + w[i];
        e = d, d = c, c = rotate_left(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

static inline void base64(char *to, const uint8_t *from, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t bits = (uint32_t)from[i] << 16 | (left > 1 ? from[i + 1] << 8 : 0) | (left > 2 ? from[i + 2] : 0);
        *to++ = digits[bits >> 18];
        *to++ = digits[bits >> 12 & 63];
        *to++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[bits & 63] : '=';
    }
}

/* accept[ACCEPT_LENGTH], not terminated: the answer to key[KEY_LENGTH], RFC 6455 4.2.2. */
static inline void accept_for_key(char *accept, const char *key) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t message[128] = {0}, digest[20];
    memcpy(message, key, KEY_LENGTH);
    memcpy(message + KEY_LENGTH, guid, 36);
    message[60] = 0x80;
    message[126] = 60 * 8 >> 8;
    message[127] = (60 * 8) & 0xFF;
    sha1_block(state, message);
    sha1_block(state, message + 64);
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
    base64(accept, digest, sizeof digest);
}
