/* Frames of any form, RFC 6455 5: fragments, control frames between them, compressed messages. */
#include <stdlib.h>

#include "state.h"

enum {
    CONTROL_ROOM = 1024,                /* bytes of Pongs that wait */
    OPCODE = 0x0F, FIN = 0x80, RSV1 = 0x40, RSV23 = 0x30,
    CONTINUATION = 0, TEXT = 1, BINARY_FRAME = 2, CLOSE = 8, PING = 9, PONG = 10,
};

static bool violates(struct load *load, struct connection *c, const char *what) {
    char name[ERROR_TEXT];
    snprintf(name, sizeof name, "protocol: %.80s", what);
    lose(load, c, name, "bytes 0x%02X 0x%02X", c->parser->header[0], c->parser->header[1]);
    return false;
}

/* ---- control frames */

size_t put_control(struct load *load, uint8_t *to, uint8_t first, const uint8_t *payload, size_t size) {
    uint32_t bits = (uint32_t)(random_bits(load) >> 32);
    uint8_t *key = put_header(to, first, size, true);
    memcpy(key, &bits, 4);
    for (size_t i = 0; i < size; i++) key[4 + i] = payload[i] ^ key[i % 4];
    return 6 + size;
}

bool queue_control(struct load *load, struct connection *c, uint8_t first, const uint8_t *payload, size_t size) {
    if (!c->control) c->control = malloc(CONTROL_ROOM);
    /* RFC 6455 5.5.3: not every Ping needs its own Pong. */
    if (!c->control || CONTROL_ROOM - c->control_length < size + 6) return true;
    c->control_length += (uint32_t)put_control(load, c->control + c->control_length, first, payload, size);
    return write_due(load, c);
}

static bool is_close_code(unsigned code) {      /* RFC 6455 7.4.2, and the IANA registry */
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static bool on_close_frame(struct load *load, struct connection *c) {
    const struct parser *p = c->parser;
    uint8_t answer[MAX_CONTROL + 6];
    char name[ERROR_TEXT];
    unsigned code = p->control_length < 2 ? 1005 : (unsigned)p->control[0] << 8 | p->control[1];
    if (p->control_length == 1) return violates(load, c, "close payload of 1 byte");
    if (p->control_length >= 2 && !is_close_code(code)) {
        snprintf(name, sizeof name, "close code %u", code);
        return violates(load, c, name);
    }
    /* RFC 6455 5.5.1: a Close is answered, with its code, where no message is cut in two by it. */
    if (!c->sent && !c->control_sent && !c->again)
        carrier_say(load, c, answer, put_control(load, answer, FIN | CLOSE, p->control, p->control_length < 2 ? 0 : 2));
    snprintf(name, sizeof name, "closed %u", code);
    note_error(load, c, name, "%.*s", p->control_length < 2 ? 0 : p->control_length - 2, (const char *)p->control + 2);
    drop(load, c, false);
    return false;
}

static bool end_control(struct load *load, struct connection *c) {
    const struct parser *p = c->parser;
    switch (p->header[0] & OPCODE) {
    case CLOSE: return on_close_frame(load, c);
    case PING: return queue_control(load, c, FIN | PONG, p->control, p->control_length);
    default: return true;       /* RFC 6455 5.5.3: a Pong may come unsolicited */
    }
}

/* ---- data frames */

static bool begin_data(struct load *load, struct connection *c) {
    struct parser *p = c->parser;
    uint8_t first = p->header[0], opcode = first & OPCODE;
    size_t size;
    if (opcode == CONTINUATION && !p->in_message) return violates(load, c, "continuation of nothing");
    if (opcode != CONTINUATION && p->in_message) return violates(load, c, "message inside a message");
    if (opcode != CONTINUATION) p->compressed = first & RSV1, p->matched = 0;
    if (load->plan.any) return true;
    if (opcode != CONTINUATION && p->compressed) inflate_begin(load, c);
    if (!outstanding(load, c)) {
        lose(load, c, "wrong answer", "a message of %llu bytes where none was due", (unsigned long long)p->left);
        return false;
    }
    expected_payload(load, c, &size);
    uint8_t wanted = load->plan.kind == BINARY ? BINARY_FRAME : TEXT;
    if (opcode != CONTINUATION && opcode != wanted) {
        lose(load, c, "wrong answer", "opcode is %u and not %u", opcode, wanted);
        return false;
    }
    uint64_t most = p->compressed ? size + size / 8 + 1024 : size - p->matched;
    if (p->left > most) {
        lose(load, c, "wrong answer", "a frame of %llu bytes where %zu were due", (unsigned long long)p->left, size);
        return false;
    }
    return true;
}

static bool take_data(struct load *load, struct connection *c, const uint8_t *data, size_t size) {
    struct parser *p = c->parser;
    size_t whole;
    if (load->plan.any) return true;
    if (p->compressed) return inflate_part(load, c, data, size);
    const uint8_t *wanted = expected_payload(load, c, &whole) + p->matched;
    if (memcmp(data, wanted, size)) {
        size_t i = 0;
        while (data[i] == wanted[i]) i++;
        lose(load, c, "wrong answer", "byte %zu of %zu is 0x%02X and not 0x%02X", (size_t)p->matched + i, whole, data[i], wanted[i]);
        return false;
    }
    p->matched += size;
    return true;
}

static bool end_message(struct load *load, struct connection *c, uint64_t now) {
    struct parser *p = c->parser;
    size_t whole;
    if (load->plan.deflate && !p->compressed) load->summary.uncompressed++;
    if (load->plan.any && !outstanding(load, c)) {
        load->summary.messages++;
        return true;
    }
    if (!load->plan.any) {
        if (p->compressed && !inflate_end(load, c)) return false;
        expected_payload(load, c, &whole);
        if (p->matched != whole) {
            lose(load, c, "wrong answer", "%llu bytes where %zu were due", (unsigned long long)p->matched, whole);
            return false;
        }
        if (p->compressed) inflate_known(load, c);
    }
    p->matched = 0;
    advance_reply(load, c, 1);
    return answers_complete(load, c, 1, now);
}

/* ---- frames */

static bool begin_frame(struct load *load, struct connection *c) {
    struct parser *p = c->parser;
    uint8_t first = p->header[0], opcode = first & OPCODE;
    uint64_t length = p->header[1] & 0x7F;
    if (length >= 126) {
        length = 0;
        for (unsigned i = 2; i < p->header_length; i++) length = length << 8 | p->header[i];
    }
    if (p->header[1] & 0x80) return violates(load, c, "masked frame");
    if ((opcode > BINARY_FRAME && opcode < CLOSE) || opcode > PONG) return violates(load, c, "reserved opcode");
    if (first & RSV23 || (first & RSV1 && (!load->plan.deflate || opcode == CONTINUATION || opcode >= CLOSE)))
        return violates(load, c, "reserved bits");
    if (length >> 63) return violates(load, c, "length over 63 bits");
    if (header_size(length) != p->header_length) return violates(load, c, "length not in the shortest form");
    p->left = length;
    p->in_payload = true;
    p->control_length = 0;
    if (opcode < CLOSE) return begin_data(load, c);
    if (!(first & FIN)) return violates(load, c, "fragmented control frame");
    if (length > MAX_CONTROL) return violates(load, c, "control frame over 125 bytes");
    return true;
}

static bool end_frame(struct load *load, struct connection *c, uint64_t now) {
    struct parser *p = c->parser;
    p->in_payload = false;
    p->header_length = 0;
    if ((p->header[0] & OPCODE) >= CLOSE) return end_control(load, c);
    p->in_message = !(p->header[0] & FIN);
    return p->in_message || end_message(load, c, now);
}

/* Takes bytes of a header, until it is whole. */
static size_t take_header(struct parser *p, const uint8_t *data, size_t size, bool *whole) {
    size_t taken = 0;
    for (;;) {
        uint8_t length = p->header_length < 2 ? 0 : p->header[1] & 0x7F;
        unsigned needed = length < 126 ? 2 : length == 126 ? 4 : 10;
        *whole = p->header_length == needed;
        if (*whole || taken == size) return taken;
        p->header[p->header_length++] = data[taken++];
    }
}

ssize_t read_frames(struct load *load, struct connection *c, const uint8_t *data, size_t size, uint64_t now) {
    if (!c->parser && !(c->parser = calloc(1, sizeof *c->parser))) {
        give_up(load, "no memory for a parser");
        return -1;
    }
    struct parser *p = c->parser;       /* it stays while the connection does */
    bool only_frames = load->plan.any || load->plan.deflate;
    size_t at = 0;
    p->in_one = false;                  /* what came before is no longer in the buffer */
    while (at < size) {
        if (!p->in_payload) {
            bool whole;
            at += take_header(p, data + at, size - at, &whole);
            if (!whole) break;
            if (!begin_frame(load, c)) return -1;
        }
        size_t part = size - at < p->left ? size - at : (size_t)p->left;
        if ((p->header[0] & OPCODE) >= CLOSE) {
            memcpy(p->control + p->control_length, data + at, part);
            p->control_length += (uint8_t)part;
        } else if (part && !take_data(load, c, data + at, part)) {
            return -1;
        }
        p->left -= part, at += part;
        if (p->left) break;
        if (!end_frame(load, c, now)) return -1;
        if (!p->in_message && !only_frames) {
            c->parsing = false;
            break;
        }
    }
    return (ssize_t)at;
}
