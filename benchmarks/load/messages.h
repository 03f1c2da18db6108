/* What the load writes, and what must come back: payloads, frames, batches of frames; made before the clock starts. */
#pragma once

#include <string.h>
#include <zlib.h>

#include "common.h"

enum {
    BATCH_RING = 64 * 1024,     /* bytes of different batches for each connection, about */
    MIN_TICKER = 256,           /* below it a record would not fit */
};

static size_t reply_size, batch_reply;      /* --deflate: of the payloads, since frames differ from server to server */
static unsigned batches;

/* ---- payloads */

static void fill(uint8_t *payload, size_t size) {
    size_t i = 0;
    while (i < size) {
        uint64_t bits = random_bits();
        size_t left = size - i;
        if (options.kind == BINARY) {
            memcpy(payload + i, &bits, left < 8 ? left : 8);
            i += left < 8 ? left : 8;
            continue;
        }
        unsigned bytes = options.kind == MIXED && bits & 1 ? 2 + (bits >> 1) % 3 : 1;
        if (bytes > left) bytes = 1;
        bits >>= 8;
        uint32_t point;
        switch (bytes) {
        case 1: payload[i] = (uint8_t)(0x20 + bits % 95); break;
        case 2:
            point = 0x80 + bits % (0x800 - 0x80);
            payload[i] = (uint8_t)(0xC0 | point >> 6);
            break;
        case 3:
            point = 0x800 + bits % (0xD800 - 0x800);        /* below the surrogates */
            payload[i] = (uint8_t)(0xE0 | point >> 12), payload[i + 1] = 0x80 | (point >> 6 & 0x3F);
            break;
        default:
            point = 0x10000 + bits % (0x110000 - 0x10000);
            payload[i] = (uint8_t)(0xF0 | point >> 18), payload[i + 1] = 0x80 | (point >> 12 & 0x3F);
            payload[i + 2] = 0x80 | (point >> 6 & 0x3F);
        }
        if (bytes > 1) payload[i + bytes - 1] = 0x80 | (point & 0x3F);
        i += bytes;
    }
}

/* A market's news as JSON, as many trades as fit: most of it is the same from message to message, the numbers are not.
 * The last field is as long as it must be for `size` bytes. */
static void fill_ticker(char *payload, size_t size) {
    static const char *const symbols[] = {"BTC-EUR", "ETH-EUR", "SOL-EUR", "ADA-EUR", "DOT-EUR", "XRP-EUR", "LTC-EUR", "BCH-EUR"};
    static uint64_t sequence = 48210377, time_ms = 1767225600000;
    char record[256];
    uint64_t bits = random_bits();
    unsigned price = 1000000 + bits % 9000000;          /* hundredths */
    sequence += 1 + (bits >> 32) % 5, time_ms += 1 + (bits >> 40) % 50;
    size_t length = (size_t)sprintf(record, "{\"channel\":\"trades\",\"symbol\":\"%s\",\"sequence\":%lu,\"time\":%lu,\"trades\":[",
                                    symbols[bits >> 60 & 7], sequence, time_ms), at = 0;
    while (at + length + 32 <= size) {
        memcpy(payload + at, record, length);
        at += length;
        bits = random_bits();
        price += bits % 400, price -= 200;
        length = (size_t)sprintf(record, "%s{\"side\":\"%s\",\"price\":\"%u.%02u\",\"amount\":\"%lu.%03lu\",\"time\":%lu}",
                                 payload[at - 1] == '[' ? "" : ",", bits >> 10 & 1 ? "buy" : "sell", price / 100, price % 100,
                                 (bits >> 12) % 3, (bits >> 16) % 1000, time_ms - (bits >> 32) % 40);
    }
    at += (size_t)sprintf(payload + at, "],\"id\":\"");
    for (; at + 2 < size; at++) payload[at] = (char)('0' + random_bits() % 10);
    memcpy(payload + at, "\"}", 2);
}

/* ---- frames, RFC 6455 5.2 */

static uint8_t *put_header(uint8_t *to, size_t length, bool masked) {
    *to++ = (uint8_t)(0x80 | (options.deflate ? 0x40 : 0) | (options.kind == BINARY ? 2 : 1));
    int extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
    *to++ = (uint8_t)((masked ? 0x80 : 0) | (extended == 0 ? length : extended == 2 ? 126 : 127));
    for (int i = extended - 1; i >= 0; i--) *to++ = (uint8_t)((uint64_t)length >> 8 * i);
    return to;
}

/* RFC 7692 7.2.1, each message on its own: this end takes no context over. Returns the size. */
static size_t compress_payload(uint8_t *to, size_t room, const uint8_t *payload, size_t size) {
    static z_stream stream;
    if (!stream.state && deflateInit2(&stream, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) fail("no deflate");
    deflateReset(&stream);
    stream.next_in = (uint8_t *)payload, stream.avail_in = (unsigned)size;
    stream.next_out = to, stream.avail_out = (unsigned)room;
    if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_in || !stream.avail_out) fail("deflate: no room");
    size_t length = room - stream.avail_out;
    if (length < 4 || memcmp(to + length - 4, "\0\0\xFF\xFF", 4)) fail("deflate: no empty block at the end");
    return length - 4;
}

static void prepare_messages(void) {
    size_t header = 2 + (options.payload < 126 ? 0 : options.payload < 65536 ? 2 : 8);
    size_t room = options.deflate ? deflateBound(NULL, options.payload) + 16 : 0;
    size_t request_room = (room ? room : options.payload) + 14;
    reply_size = (options.deflate ? 0 : header) + options.payload;
    batch_reply = reply_size * options.in_flight;
    batches = (unsigned)(BATCH_RING / ((header + 4 + options.payload) * options.in_flight));
    batches = batches < 2 ? 2 : batches > 16 ? 16 : batches;
    int writers = options.mode == FANOUT ? 1 : options.connections;
    uint8_t *compressed = room ? allocate(room) : NULL;
    for (int i = 0; i < writers; i++) {
        struct connection *c = &connections[i];
        uint8_t *request = c->requests = allocate(batches * options.in_flight * request_room);
        uint8_t *reply = c->replies = allocate(batches * batch_reply);
        c->request_at = allocate((batches + 1) * sizeof *c->request_at);
        for (unsigned j = 0; j < batches * options.in_flight; j++) {
            uint8_t *payload = options.deflate ? reply : put_header(reply, options.payload, false), key[4];
            const uint8_t *sent = payload;
            size_t size = options.payload;
            uint32_t bits = (uint32_t)(random_bits() >> 32);
            if (options.kind == TICKER) fill_ticker((char *)payload, size);
            else fill(payload, size);
            if (options.deflate) size = compress_payload(compressed, room, payload, size), sent = compressed;
            memcpy(key, &bits, 4);
            uint8_t *to = put_header(request, size, true);
            memcpy(to, key, 4);
            for (size_t k = 0; k < size; k++) to[4 + k] = sent[k] ^ key[k % 4];
            request = to + 4 + size, reply += reply_size;
            if ((j + 1) % options.in_flight == 0) c->request_at[(j + 1) / options.in_flight] = request - c->requests;
        }
    }
    for (int i = writers; i < options.connections; i++) connections[i].replies = connections[0].replies;
    free(compressed);
}
