/* What has come back, compared with what had to. Plain answers: one memcmp. Compressed ones: inflated, RFC 7692 7.2.2. */
#pragma once

#include <string.h>
#include <zlib.h>

#include "messages.h"
#include "opening.h"

enum {
    BUFFER = 128 * 1024,        /* small enough to be compared while it is in the cache */
    INFLATED = 16 * 1024,
    CHECK_EACH = 16,            /* fanout --deflate: connections of which one inflates; of the others frames are counted */
    MAX_WINDOW = 32 * 1024,
};

struct inflater {
    z_stream stream;
    bool checks;
    uint8_t header[10];
    unsigned header_length;
    bool in_payload;            /* the header is whole */
    size_t left, inflated;      /* of this answer: bytes of the frame to come, bytes of the payload that were right */
};

static uint8_t buffer[BUFFER];

static void explain_mismatch(const struct connection *c, const uint8_t *wanted, size_t size) {
    size_t i = 0;
    while (buffer[i] == wanted[i] && i + 1 < size) i++;
    size_t at = (c->received + i) % reply_size, header = reply_size - options.payload;
    fail("connection %d: wrong answer: byte %zu of the frame, in its %s, is 0x%02X and not 0x%02X", index_of(c), at,
         at == 0 ? "FIN and opcode" : at < header ? "length" : "payload", buffer[i], wanted[i]);
}

/* Returns how many messages buffer[0..got) completed. */
static size_t check_plain(struct connection *c, size_t got) {
    if (c->received + got > batch_reply) fail("connection %d: %zu bytes more than were due", index_of(c),
                                              c->received + got - batch_reply);
    const uint8_t *wanted = c->replies + c->batch * batch_reply + c->received;
    if (memcmp(buffer, wanted, got)) explain_mismatch(c, wanted, got);
    size_t before = c->received / reply_size;
    c->received += got;
    return c->received / reply_size - before;
}

static void prepare_inflater(struct connection *c) {
    struct inflater *it = c->inflater = allocate(sizeof *it);
    it->checks = options.mode != FANOUT || index_of(c) % CHECK_EACH == 0;
    if (it->checks && inflateInit2(&it->stream, -15) != Z_OK) fail("no memory to inflate");
}

/* RFC 7692 7.2.3.4: a message may hold a final block, and go on; what came before stays in the window. */
static void after_final_block(struct inflater *it) {
    static uint8_t window[MAX_WINDOW];
    unsigned size = 0;
    inflateGetDictionary(&it->stream, window, &size);
    inflateReset(&it->stream);
    if (size) inflateSetDictionary(&it->stream, window, size);
}

static void inflate_part(struct connection *c, const uint8_t *data, size_t size) {
    static uint8_t inflated[INFLATED];
    struct inflater *it = c->inflater;
    const uint8_t *wanted = c->replies + c->batch * batch_reply + c->received;
    it->stream.next_in = (uint8_t *)data, it->stream.avail_in = (unsigned)size;
    do {        /* each turn takes input or gives output, and output over the payload's size ends the run */
        it->stream.next_out = inflated, it->stream.avail_out = INFLATED;
        int status = inflate(&it->stream, Z_SYNC_FLUSH);
        size_t got = INFLATED - it->stream.avail_out;
        if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END)
            fail("connection %d: wrong answer: cannot be inflated: %s", index_of(c), it->stream.msg ? it->stream.msg : "?");
        if (it->inflated + got > options.payload || memcmp(inflated, wanted + it->inflated, got))
            fail("connection %d: wrong answer: byte %zu or later of the inflated payload", index_of(c), it->inflated);
        it->inflated += got;
        if (status == Z_STREAM_END) after_final_block(it);
        else if (status == Z_BUF_ERROR && it->stream.avail_in) fail("connection %d: inflating does not go on", index_of(c));
    } while (it->stream.avail_in || !it->stream.avail_out);
}

static void end_message(struct connection *c) {
    struct inflater *it = c->inflater;
    if (it->checks) {
        inflate_part(c, (const uint8_t *)"\0\0\xFF\xFF", 4);
        if (it->inflated != options.payload || (it->stream.data_type & (128 | 63)) != 128)
            fail("connection %d: wrong answer: %zu bytes inflated, or it ends inside a block", index_of(c), it->inflated);
        if (!server_context) inflateReset(&it->stream);
    }
    it->inflated = it->header_length = 0;
    it->in_payload = false;
    c->received += options.payload;
}

/* Takes bytes of a frame's header. Returns how many; when it is whole, `left` is the payload's length. */
static size_t take_header(struct connection *c, const uint8_t *data, size_t size) {
    /* Without context, and all else alike, a message is as long for everybody: one length for each place in a batch. */
    static struct { unsigned batch; size_t received, length; } first;
    struct inflater *it = c->inflater;
    size_t taken = 0;
    for (;;) {
        size_t whole = it->header_length < 2 ? 2 : (it->header[1] & 0x7F) < 126 ? 2 : (it->header[1] & 0x7F) == 126 ? 4 : 10;
        if (it->header_length == whole) break;
        if (taken == size) return taken;
        it->header[it->header_length++] = data[taken++];
    }
    uint64_t length = it->header[1] & 0x7F;
    if (length >= 126) {
        length = 0;
        for (unsigned i = 2; i < it->header_length; i++) length = length << 8 | it->header[i];
    }
    uint8_t wanted = 0xC0 | (options.kind == BINARY ? 2 : 1), shortest[10];
    if (it->header[0] != wanted)
        fail("connection %d: wrong answer: first byte of the frame is 0x%02X and not 0x%02X (FIN, RSV1, opcode)", index_of(c),
             it->header[0], wanted);
    if ((size_t)(put_header(shortest, length, false) - shortest) != it->header_length || it->header[1] & 0x80)
        fail("connection %d: wrong answer: masked, or its length not in the shortest form", index_of(c));
    if (c->received >= batch_reply) fail("connection %d: an answer more than were due", index_of(c));
    if (!length || length > options.payload + options.payload / 1000 + 64) fail("connection %d: wrong answer: a frame of %lu bytes", index_of(c), length);
    if (options.mode == FANOUT && !server_context) {
        if (first.batch != c->batch || first.received != c->received || !first.length)
            first.batch = c->batch, first.received = c->received, first.length = length;
        else if (first.length != length)
            fail("connection %d: wrong answer: %lu bytes compressed, and %zu for another", index_of(c), length, first.length);
    }
    it->in_payload = true;
    it->left = length;
    return taken;
}

/* Returns how many messages buffer[0..got) completed. */
static size_t check_deflated(struct connection *c, size_t got) {
    struct inflater *it = c->inflater;
    size_t answered = 0;
    for (size_t at = 0; at < got; ) {
        if (!it->in_payload) {
            at += take_header(c, buffer + at, got - at);
            continue;
        }
        size_t part = got - at < it->left ? got - at : it->left;
        if (it->checks) inflate_part(c, buffer + at, part);
        it->left -= part, at += part;
        if (it->left) continue;
        end_message(c);
        answered++;
    }
    return answered;
}
