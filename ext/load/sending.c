/* What is written when: batches, schedules, publications; and what follows from an answer. */
#include <stdlib.h>

#include "state.h"

enum {
    WRITTEN_AT_ONCE = 1024 * 1024,      /* bytes; later, when the socket takes more, no more than are read in a turn */
    DUE_AT_ONCE = 4096,                 /* messages handed out in one turn: answers are to be read meanwhile */
    MAX_UNANSWERED = 1 << 25,           /* times kept, of 8 bytes each */
    STUCK_BYTES = 256 * 1024,           /* over what a kernel and the servers' own limits let wait for one connection */
    DEFLATED = 6,                       /* messages are larger than what comes of them by less */
};

static uint64_t intended_ns(const struct load *load, uint64_t number) {
    return load->schedule_ns + (uint64_t)((double)number * load->interval_ns);
}

/* ---- writing */

/* Moves the place in the pool on by so many written bytes of `run` messages. */
static void advance_send(struct load *load, struct connection *c, uint32_t run, size_t size) {
    const size_t *at = load->pool.request_at + c->send_at;
    uint32_t whole = 0;
    size += c->sent;
    if (at[run] - at[0] == size) whole = run;
    else while (at[whole + 1] - at[0] <= size) whole++;
    c->sent = size - (at[whole] - at[0]);
    c->send_due -= whole;
    c->send_at += whole;
    if (c->send_at >= load->pool.count) c->send_at -= load->pool.count;
}

bool write_due(struct load *load, struct connection *c) {
    const struct pool *pool = &load->pool;
    size_t left = c->writing ? BUFFER : WRITTEN_AT_ONCE;
    while (left) {
        bool control = c->control_length && (c->again ? c->again_control : c->control_sent || !c->sent);
        const uint8_t *from;
        uint32_t run = 0;
        size_t size;
        if (control) {
            from = c->control + c->control_sent, size = c->control_length - c->control_sent;
        } else if (c->send_due) {
            run = pool->count - c->send_at < c->send_due ? pool->count - c->send_at : c->send_due;
            if (c->control_length && !c->again) run = 1;
            from = pool->requests + pool->request_at[c->send_at] + c->sent;
            size = pool->request_at[c->send_at + run] - pool->request_at[c->send_at] - c->sent;
        } else {
            break;
        }
        if (size > left && !c->again) size = left;
        ssize_t taken = carrier_send(load, c, from, size);
        if (taken < 0) return false;
        c->again_control = control;
        if (taken == 0) {
            want_writing(load, c, true);
            return true;
        }
        load->summary.sent_bytes += (uint64_t)taken;
        left -= (size_t)taken < left ? (size_t)taken : left;
        if (control) {
            c->control_sent += (uint32_t)taken;
            if (c->control_sent == c->control_length) c->control_sent = c->control_length = 0;
        } else {
            advance_send(load, c, run, (size_t)taken);
        }
    }
    want_writing(load, c, !left && (c->send_due || c->control_length));
    return true;
}

bool start_batch(struct load *load, struct connection *c, uint64_t now) {
    c->began_ns = now;
    c->asked += load->plan.in_flight;
    c->send_due += load->plan.in_flight;
    return write_due(load, c);
}

/* ---- fanout */

/* The connection that writes; another one when that was lost. NULL when there is none. */
static struct connection *publisher(struct load *load) {
    struct connection *c = &load->connections[load->publisher];
    if (c->state == OPEN) return c;
    if (!load->live_count) return NULL;
    load->publisher = load->live[0];
    c = &load->connections[load->publisher];
    c->send_at = (uint32_t)(((uint64_t)c->reply_at + outstanding(load, c)) % load->pool.count);
    return c;
}

static void end_filling(struct load *load) {
    pool_free(&load->pool);
    load->pool = load->measured_pool;
    memset(&load->measured_pool, 0, sizeof load->measured_pool);
    for (uint32_t i = load->live_count; i-- > 0; ) {
        struct connection *c = &load->connections[load->live[i]];
        if (c->send_due) lose(load, c, "wrong answer", "it came before the message had been sent");
        c->send_at = c->reply_at = 0;
    }
    load->filling = false;
    load->full = true;
}

void publish(struct load *load, uint64_t now) {
    if (load->filling) {
        size_t enough = load->plan.deflate ? DEFLATED * STUCK_BYTES : STUCK_BYTES;
        if (load->filled >= enough || !load->live_count) {
            end_filling(load);
            return;
        }
        load->filled += load->pool.reply_at[1];
    }
    struct connection *c = publisher(load);
    if (!c) return;
    uint32_t count = load->filling ? 1 : load->plan.in_flight;
    load->batch_ns = now;
    load->published += count;
    load->missing = load->live_count;
    c->send_due += count;
    write_due(load, c);
}

void begin_filling(struct load *load, uint64_t now) {
    static const size_t size = 4096;
    static const double weight = 1;
    load->measured_pool = load->pool;
    if (!pool_make(load, &load->pool, &size, &weight, 1)) {
        load->pool = load->measured_pool;
        memset(&load->measured_pool, 0, sizeof load->measured_pool);
        give_up(load, "no memory for messages");
        return;
    }
    load->filling = true;
    publish(load, now);
}

/* ---- open loop */

static bool keep_time(struct load *load, struct times *due, uint64_t ns) {
    if (due->count == due->room) {
        uint32_t room = due->room ? due->room * 2 : 4;
        uint64_t *bigger = load->unanswered < MAX_UNANSWERED ? malloc(room * sizeof *bigger) : NULL;
        if (!bigger) {
            give_up(load, "%llu messages are unanswered, limit is %d: the rate is far over what the server takes",
                    (unsigned long long)load->unanswered, MAX_UNANSWERED);
            return false;
        }
        for (uint32_t i = 0; i < due->count; i++) bigger[i] = due->ns[(due->head + i) & (due->room - 1)];
        free(due->ns);
        due->ns = bigger, due->room = room, due->head = 0;
    }
    due->ns[(due->head + due->count++) & (due->room - 1)] = ns;
    load->unanswered++;
    return true;
}

uint64_t keep_schedule(struct load *load, uint64_t now) {
    uint64_t next = UINT64_MAX;
    if (!load->plan.rate || !load->started || load->stopped || !load->live_count) return next;
    for (unsigned i = 0; i < DUE_AT_ONCE; i++) {
        next = intended_ns(load, load->scheduled);
        if (next > now) break;
        struct connection *c;
        if (load->plan.mode == FANOUT) {
            c = publisher(load);
            load->published++;
        } else {
            if (load->turn >= load->live_count) load->turn = 0;
            c = &load->connections[load->live[load->turn++]];
            if (!keep_time(load, &c->due, next)) return UINT64_MAX;
            c->asked++;
        }
        c->send_due++;
        load->scheduled++;
        if (!c->flushing) load->flush[load->flush_count++] = index_of(load, c), c->flushing = true;
    }
    for (uint32_t i = 0; i < load->flush_count; i++) {
        struct connection *c = &load->connections[load->flush[i]];
        c->flushing = false;
        if (c->state == OPEN && !c->writing) write_due(load, c);
    }
    load->flush_count = 0;
    return next;
}

/* ---- what follows from an answer */

static void record_latencies(struct load *load, struct connection *c, uint32_t count, uint64_t now) {
    uint64_t *latencies = load->summary.latencies;
    if (!load->plan.rate) {
        record(latencies, now - (load->plan.mode == FANOUT ? load->batch_ns : c->began_ns), count);
    } else if (load->plan.mode == FANOUT) {
        uint32_t first = c->answered - load->schedule_base;
        for (uint32_t i = 0; i < count; i++) record(latencies, now - intended_ns(load, first + i), 1);
    } else {
        struct times *due = &c->due;
        for (uint32_t i = 0; i < count; i++) record(latencies, now - due->ns[(due->head + i) & (due->room - 1)], 1);
        due->head += count, due->count -= count;
        load->unanswered -= count;
    }
}

bool answers_complete(struct load *load, struct connection *c, uint32_t count, uint64_t now) {
    if (!load->filling) {
        load->summary.messages += count;
        record_latencies(load, c, count, now);
    }
    c->answered += count;
    if ((load->plan.rate && !load->filling) || outstanding(load, c)) return true;
    if (load->plan.mode == ECHO) return load->stopped || start_batch(load, c, now);
    if (--load->missing == 0 && !load->stopped && (load->filling || load->started)) publish(load, now);
    return c->state == OPEN;
}

uint64_t oldest_due(const struct load *load, const struct connection *c) {
    if (!outstanding(load, c)) return 0;
    if (!load->plan.rate || load->filling) return load->plan.mode == FANOUT ? load->batch_ns : c->began_ns;
    if (load->plan.mode == FANOUT) return intended_ns(load, c->answered - load->schedule_base);
    return c->due.ns[c->due.head & (c->due.room - 1)];
}
