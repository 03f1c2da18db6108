/* Compressed answers, RFC 7692 7.2.2: inflated part by part, and compared. */
#include <stdlib.h>
#include <zlib.h>

#include "state.h"

enum {
    INFLATED = 16 * 1024,
    MAX_WINDOW = 32 * 1024,
    CHECK_EACH = 16,            /* fanout, with context: connections of which one inflates; of the others frames are
                                 * counted. All of them would take more time than the server does for them. */
};

struct inflater {
    z_stream stream;
};

static bool inflates(const struct load *load, const struct connection *c) {
    return !c->server_context || load->plan.mode != FANOUT || index_of(load, c) % CHECK_EACH == 0;
}

static bool make_inflater(struct load *load, struct connection *c) {
    if (c->inflater) return true;
    c->inflater = calloc(1, sizeof *c->inflater);
    if (c->inflater && inflateInit2(&c->inflater->stream, -15) == Z_OK) return true;
    free(c->inflater);
    c->inflater = NULL;
    give_up(load, "no memory to inflate");
    return false;
}

void inflater_free(struct connection *c) {
    if (!c->inflater) return;
    inflateEnd(&c->inflater->stream);
    free(c->inflater);
    c->inflater = NULL;
}

/* RFC 7692 7.2.3.4: a message may hold a final block, and go on; what came before stays in the window. */
static void after_final_block(z_stream *stream) {
    uint8_t window[MAX_WINDOW];
    unsigned size = 0;
    inflateGetDictionary(stream, window, &size);
    inflateReset(stream);
    if (size) inflateSetDictionary(stream, window, size);
}

static bool inflate_data(struct load *load, struct connection *c, const uint8_t *data, size_t size) {
    uint8_t inflated[INFLATED];
    struct parser *p = c->parser;
    size_t whole;
    if (!make_inflater(load, c)) return false;
    z_stream *stream = &c->inflater->stream;
    const uint8_t *wanted = expected_payload(load, c, &whole);
    stream->next_in = (uint8_t *)data, stream->avail_in = (unsigned)size;
    do {        /* each turn takes input or gives output, and output over the payload's size is an error */
        stream->next_out = inflated, stream->avail_out = INFLATED;
        int status = inflate(stream, Z_SYNC_FLUSH);
        size_t got = INFLATED - stream->avail_out;
        if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END) {
            lose(load, c, "wrong answer", "cannot be inflated: %s", stream->msg ? stream->msg : "no reason given");
            return false;
        }
        if (got > whole - p->matched || memcmp(inflated, wanted + p->matched, got)) {
            lose(load, c, "wrong answer", "byte %zu or later of the inflated payload", (size_t)p->matched);
            return false;
        }
        p->matched += got;
        if (status == Z_STREAM_END) {
            after_final_block(stream);
        } else if (status == Z_BUF_ERROR && stream->avail_in) {
            lose(load, c, "wrong answer", "inflating does not go on");
            return false;
        }
    } while (stream->avail_in || !stream->avail_out);
    return true;
}

/* What came is not what is known, after all: it may still be right. */
static bool stop_comparing(struct load *load, struct connection *c) {
    c->parser->comparing = false;
    return !c->parser->compared || inflate_data(load, c, load->pool.known[c->reply_at].data, c->parser->compared);
}

void inflate_begin(struct load *load, struct connection *c) {
    struct parser *p = c->parser;
    p->comparing = !c->server_context && load->pool.known[c->reply_at].data;
    p->compared = 0;
    p->in_one = false;
    p->piece = (struct known){0};
}

bool inflate_part(struct load *load, struct connection *c, const uint8_t *data, size_t size) {
    struct parser *p = c->parser;
    if (!inflates(load, c)) return true;
    if (p->comparing) {
        const struct known *known = &load->pool.known[c->reply_at];
        if (size <= known->size - p->compared && !memcmp(data, known->data + p->compared, size)) {
            p->compared += size;
            return true;
        }
        if (!stop_comparing(load, c)) return false;
    } else {
        p->in_one = !p->piece.data;
    }
    p->piece = (struct known){(uint8_t *)data, size};
    return inflate_data(load, c, data, size);
}

void inflate_known(struct load *load, struct connection *c) {
    const struct parser *p = c->parser;
    struct known *known = &load->pool.known[c->reply_at];
    if (c->server_context || !p->in_one || known->data || !(known->data = malloc(p->piece.size))) return;
    memcpy(known->data, p->piece.data, p->piece.size);
    known->size = p->piece.size;
}

bool inflate_end(struct load *load, struct connection *c) {
    struct parser *p = c->parser;
    bool same = p->comparing && p->compared == load->pool.known[c->reply_at].size;
    if (same || !inflates(load, c)) {
        size_t whole;
        expected_payload(load, c, &whole);
        p->matched = whole;
        return true;
    }
    if (p->comparing && !stop_comparing(load, c)) return false;
    if (!inflate_data(load, c, (const uint8_t *)"\0\0\xFF\xFF", 4)) return false;
    z_stream *stream = &c->inflater->stream;
    if ((stream->data_type & (128 | 63)) != 128) {
        lose(load, c, "wrong answer", "it ends inside a block");
        return false;
    }
    if (!c->server_context) inflateReset(stream);
    return true;
}
