/* What has come back, compared with what had to: one memcmp where every answer is a single shortest frame. */
#include "state.h"

/* Returns how many messages end within `size` bytes from the start of the one that is expected; *rest is what is over. */
static uint32_t whole_answers(const struct load *load, const struct connection *c, uint32_t run, size_t size, size_t *rest) {
    const size_t *at = load->pool.reply_at + c->reply_at;
    uint32_t count = 0;
    if (at[run] - at[0] == size) {
        *rest = 0;
        return run;
    }
    while (count < run && at[count + 1] - at[0] <= size) count++;
    *rest = size - (at[count] - at[0]);
    return count;
}

/* What came so far was right, and what comes now is not the frame that was expected: the parser finds out. */
static bool begin_parsing(struct load *load, struct connection *c, uint64_t now) {
    size_t matched = c->matched;
    const uint8_t *seen = load->pool.replies + load->pool.reply_at[c->reply_at];
    c->matched = 0;
    c->parsing = true;
    return !matched || read_frames(load, c, seen, matched, now) >= 0;
}

bool read_answers(struct load *load, struct connection *c, const uint8_t *data, size_t size, uint64_t now) {
    const struct pool *pool = &load->pool;
    while (size) {
        if (c->parsing) {
            ssize_t taken = read_frames(load, c, data, size, now);
            if (taken < 0) return false;
            data += taken, size -= (size_t)taken;
            continue;
        }
        uint32_t run = outstanding(load, c);
        if (!run || load->plan.any || load->plan.deflate) {
            c->parsing = true;
            continue;
        }
        if (run > pool->count - c->reply_at) run = pool->count - c->reply_at;
        const uint8_t *wanted = pool->replies + pool->reply_at[c->reply_at] + c->matched;
        size_t part = pool->reply_at[c->reply_at + run] - pool->reply_at[c->reply_at] - c->matched, rest;
        if (part > size) part = size;
        bool right = !memcmp(data, wanted, part);
        if (!right)
            for (part = 0; data[part] == wanted[part]; ) part++;
        uint32_t count = whole_answers(load, c, run, c->matched + part, &rest);
        data += part, size -= part;
        if (count) advance_reply(load, c, count);
        c->matched = rest;
        if (count && !answers_complete(load, c, count, now)) return false;
        if (!right && !begin_parsing(load, c, now)) return false;
    }
    return true;
}
