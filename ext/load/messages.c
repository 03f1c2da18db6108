/* What is sent, and what must come back: payloads, frames, all made before the clock starts. */
#include <stdlib.h>
#include <zlib.h>

#include "state.h"

enum {
    POOL = 64 * 1024,                       /* bytes of payloads, about: with the frames of both ways they stay in a cache */
    MAX_POOL = 64 * 1024 * 1024,            /* more only where two messages are more */
    DISTRIBUTED = 1000,                     /* messages, where sizes differ: enough for a share of 0.1 % */
    RECORD = 256,
};

/* ---- payloads */

static void fill(struct load *load, uint8_t *payload, size_t size) {
    size_t i = 0;
    while (i < size) {
        uint64_t bits = random_bits(load);
        size_t left = size - i;
        if (load->plan.kind == BINARY) {
            memcpy(payload + i, &bits, left < 8 ? left : 8);
            i += left < 8 ? left : 8;
            continue;
        }
        unsigned bytes = load->plan.kind == UTF8 && bits & 1 ? 2 + (bits >> 1) % 3 : 1;
        if (bytes > left) bytes = 1;
        bits >>= 8;
        uint32_t point;
        switch (bytes) {
        case 1:
            payload[i++] = (uint8_t)(0x20 + bits % 95);
            continue;
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
        payload[i + bytes - 1] = 0x80 | (point & 0x3F);
        i += bytes;
    }
}

/* A market's news as JSON, as many trades as fit: most of it is the same from message to message, the numbers are not.
 * The last field is as long as it must be for `size` bytes, which are MIN_TICKER or more. */
static void fill_ticker(struct load *load, char *payload, size_t size, uint64_t number) {
    static const char *const symbols[] = {"BTC-EUR", "ETH-EUR", "SOL-EUR", "ADA-EUR", "DOT-EUR", "XRP-EUR", "LTC-EUR", "BCH-EUR"};
    char record[RECORD];
    uint64_t bits = random_bits(load), time_ms = 1767225600000 + 25 * number + (bits >> 40) % 25;
    unsigned price = 1000000 + bits % 9000000;          /* hundredths */
    size_t length = (size_t)snprintf(record, RECORD,
        "{\"channel\":\"trades\",\"symbol\":\"%s\",\"sequence\":%llu,\"time\":%llu,\"trades\":[", symbols[bits >> 60 & 7],
        (unsigned long long)(48210377 + 3 * number), (unsigned long long)time_ms), at = 0;
    while (at + length + 32 <= size) {
        memcpy(payload + at, record, length);
        at += length;
        bits = random_bits(load);
        price += bits % 400, price -= 200;
        length = (size_t)snprintf(record, RECORD, "%s{\"side\":\"%s\",\"price\":\"%u.%02u\",\"amount\":\"%u.%03u\",\"time\":%llu}",
                                  payload[at - 1] == '[' ? "" : ",", bits >> 10 & 1 ? "buy" : "sell", price / 100, price % 100,
                                  (unsigned)((bits >> 12) % 3), (unsigned)((bits >> 16) % 1000),
                                  (unsigned long long)(time_ms - (bits >> 32) % 40));
    }
    memcpy(payload + at, "],\"id\":\"", 8);
    for (at += 8; at + 2 < size; at++) payload[at] = (char)('0' + random_bits(load) % 10);
    memcpy(payload + at, "\"}", 2);
}

/* ---- frames */

uint8_t *put_header(uint8_t *to, uint8_t first, uint64_t length, bool masked) {
    int extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
    *to++ = first;
    *to++ = (uint8_t)((masked ? 0x80 : 0) | (extended == 0 ? length : extended == 2 ? 126 : 127));
    for (int i = extended - 1; i >= 0; i--) *to++ = (uint8_t)(length >> 8 * i);
    return to;
}

/* One message in so many frames, RFC 6455 5.4; each has a masking key of its own. Returns the end. */
static uint8_t *put_request(struct load *load, uint8_t *to, const uint8_t *payload, size_t size) {
    unsigned fragments = load->plan.fragments;
    uint8_t first = (uint8_t)((load->plan.deflate ? 0x40 : 0) | (load->plan.kind == BINARY ? 2 : 1));
    for (unsigned i = 0; i < fragments; i++) {
        size_t from = (size_t)((double)size * i / fragments), end = i + 1 < fragments ? (size_t)((double)size * (i + 1) / fragments) : size;
        uint32_t bits = (uint32_t)(random_bits(load) >> 32);
        uint8_t key[4];
        memcpy(key, &bits, 4);
        to = put_header(to, (uint8_t)((i + 1 == fragments ? 0x80 : 0) | (i == 0 ? first : 0)), end - from, true);
        memcpy(to, key, 4);
        to += 4;
        for (size_t k = from; k < end; k++) *to++ = payload[k] ^ key[(k - from) % 4];
    }
    return to;
}

/* RFC 7692 7.2.1, each message on its own: this end takes no context over. Returns the size, 0 when it cannot. */
static size_t compress_payload(z_stream *stream, uint8_t *to, size_t room, const uint8_t *payload, size_t size) {
    deflateReset(stream);
    stream->next_in = (uint8_t *)payload, stream->avail_in = (unsigned)size;
    stream->next_out = to, stream->avail_out = (unsigned)room;
    if (deflate(stream, Z_SYNC_FLUSH) != Z_OK || stream->avail_in || !stream->avail_out) return 0;
    size_t length = room - stream->avail_out;
    if (length < 4 || memcmp(to + length - 4, "\0\0\xFF\xFF", 4)) return 0;
    return length - 4;
}

/* ---- sizes */

/* Shares `count` messages out by weight, one at least for each size, and shuffles them. */
static void share_out(struct load *load, size_t *to, uint32_t count, const size_t *sizes, const double *weights,
                      size_t size_count) {
    double total = 0, before = 0;
    for (size_t i = 0; i < size_count; i++) total += weights[i];
    uint32_t at = 0;
    for (size_t i = 0; i < size_count; i++) {
        before += weights[i];
        uint32_t end = (uint32_t)(before / total * count + 0.5), left = (uint32_t)(size_count - 1 - i);
        if (end <= at) end = at + 1;
        if (end > count - left || i + 1 == size_count) end = count - left;
        while (at < end) to[at++] = sizes[i];
    }
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(random_bits(load) % (i + 1));
        size_t swapped = to[i];
        to[i] = to[j], to[j] = swapped;
    }
}

static uint32_t count_for(const struct load *load, const size_t *sizes, const double *weights, size_t size_count) {
    double total = 0, mean = 0;
    for (size_t i = 0; i < size_count; i++) total += weights[i];
    for (size_t i = 0; i < size_count; i++) mean += (double)sizes[i] * weights[i] / total;
    double each = mean + 24, count = POOL / each, most = MAX_POOL / each;
    uint32_t writers = load->plan.mode == FANOUT ? 1 : load->plan.connections, batch = load->plan.in_flight;
    double differing = 2.0 * (writers < 64 ? writers : 64);
    if (count < differing) count = differing;
    if (size_count > 1 && count < DISTRIBUTED) count = DISTRIBUTED;
    if (count > most) count = most;
    if (count < 2.0 * batch && 2.0 * batch <= most) count = 2.0 * batch;
    if (count < 2) count = 2;
    if (count < (double)size_count) count = (double)size_count;
    if (count > batch) count = (double)((uint64_t)count / batch * batch);    /* so that no batch is in two pieces */
    if (count < 2) count = 2;
    if (count < (double)size_count) count = (double)size_count;
    return (uint32_t)count;
}

void pool_free(struct pool *pool) {
    for (uint32_t i = 0; pool->known && i < pool->count; i++) free(pool->known[i].data);
    free(pool->requests), free(pool->replies), free(pool->request_at), free(pool->reply_at), free(pool->known);
    memset(pool, 0, sizeof *pool);
}

bool pool_make(struct load *load, struct pool *pool, const size_t *sizes, const double *weights, size_t size_count) {
    uint32_t count = count_for(load, sizes, weights, size_count);
    size_t frames = load->plan.fragments, requests = 0, replies = 0, largest = 0;
    size_t *size_of = malloc(count * sizeof *size_of);
    bool made = false;
    uint8_t *compressed = NULL;
    z_stream stream = {0};
    memset(pool, 0, sizeof *pool);
    if (!size_of) return false;
    share_out(load, size_of, count, sizes, weights, size_count);
    for (uint32_t i = 0; i < count; i++) {
        size_t size = size_of[i], room = load->plan.deflate ? compressBound(size) + 16 : size;
        replies += header_size(size) + size;
        requests += room + frames * (MAX_FRAME_HEADER + 4);
        if (room > largest) largest = room;
    }
    pool->count = count;
    pool->requests = malloc(requests);
    pool->replies = malloc(replies);
    pool->request_at = malloc((count + 1) * sizeof *pool->request_at);
    pool->reply_at = malloc((count + 1) * sizeof *pool->reply_at);
    if (load->plan.deflate) {
        compressed = malloc(largest);
        pool->known = calloc(count, sizeof *pool->known);
        if (deflateInit2(&stream, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) goto end;
    }
    if (!pool->requests || !pool->replies || !pool->request_at || !pool->reply_at) goto end;
    if (load->plan.deflate && (!compressed || !pool->known)) goto end;
    uint8_t *request = pool->requests, *reply = pool->replies;
    for (uint32_t i = 0; i < count; i++) {
        size_t size = size_of[i];
        pool->request_at[i] = (size_t)(request - pool->requests), pool->reply_at[i] = (size_t)(reply - pool->replies);
        uint8_t *payload = put_header(reply, load->plan.kind == BINARY ? 0x82 : 0x81, size, false);
        if (load->plan.kind == TICKER) fill_ticker(load, (char *)payload, size, i);
        else fill(load, payload, size);
        reply = payload + size;
        const uint8_t *sent = payload;
        if (load->plan.deflate) {
            size = compress_payload(&stream, compressed, largest, payload, size), sent = compressed;
            if (!size) goto end;
        }
        request = put_request(load, request, sent, size);
    }
    pool->request_at[count] = (size_t)(request - pool->requests), pool->reply_at[count] = (size_t)(reply - pool->replies);
    made = true;
end:
    if (stream.state) deflateEnd(&stream);
    free(compressed), free(size_of);
    if (!made) pool_free(pool);
    return made;
}
