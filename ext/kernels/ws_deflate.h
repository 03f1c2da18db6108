/* One message to raw DEFLATE, RFC 1951, in the form of RFC 7692 7.2.1, without context takeover.
 *
 * Made for short messages: what a message costs beside its bytes is one pass over 286 counters and
 * the two Huffman codes; no table is cleared and nothing is allocated.
 */
#ifndef WS_DEFLATE_H
#define WS_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

#define WS_DEFLATE_HASH_BITS 12
#define WS_DEFLATE_TOKENS 8192 /* literals and matches in one block */
#define WS_DEFLATE_MAX 0x7FFFFFFFu

/* Room enough for any `size` bytes: no block is larger than stored, and none but the last is of less
 * than 8184 bytes. */
#define WS_DEFLATE_BOUND(size) ((size) + (size) / 1024 + 8)

/* A Huffman code, each symbol as code | bits << 16 | (bits + extra bits) << 24, the code's first
 * bit lowest. */
typedef struct {
    uint32_t literal[288];
    uint32_t distance[32];
} ws_deflate_codes;

/* What outlives a message is there to save time only: no byte of the output depends on it.
 * One thread at a time. 67 KiB. */
typedef struct {
    /* Where the message under way begins: its positions are base + offset, those of the messages
     * before it are lower. At least 1, so that 0 is the past as well. */
    uint32_t base;
    /* By the hash of four bytes: the last two positions where it was seen, the later one in the low half. */
    uint64_t seen[1u << WS_DEFLATE_HASH_BITS];
    /* The block under way, see deflate.c. */
    uint32_t tokens[WS_DEFLATE_TOKENS];
    uint16_t literal_uses[288];
    uint16_t distance_uses[32];
    /* Set once. */
    uint16_t length_token[256];
    ws_deflate_codes fixed;
} ws_deflate_state;

/* Prepare a state, before its first message. */
void ws_deflate_init(ws_deflate_state *state);

/* Compress src[0..size), at most WS_DEFLATE_MAX bytes, into dst[0..room).
 * The result is a sequence of blocks with BFINAL 0, the last of them empty and stored, without its
 * last four bytes 00 00 FF FF: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end",
 * RFC 7692 7.2.1. No byte of it refers to what precedes src, or further back than
 * 1 << window_bits (9 to 15) bytes, which is LZ77's window in RFC 7692 7.1.2.
 * Returns its size, at least 1; 0 when it is larger than room: then dst[0..room) is unspecified.
 * The same bytes for the same src and window_bits, always.
 * No byte outside [src, src + size) is read, none outside [dst, dst + room) written; the two do
 * not overlap. Never fails; needs no GIL. */
size_t ws_deflate(ws_deflate_state *state, const uint8_t *src, size_t size, uint8_t *dst, size_t room,
                  unsigned window_bits);

#endif
