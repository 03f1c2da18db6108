/* The loop: what is opened when, what is ready, what takes too long. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "state.h"

#define TICK_NS 10000000ull             /* until something that failed is tried again */

enum {
    EVENTS = 256,
    OPENING_AT_ONCE = 128,
    RECORDS_AT_ONCE = 64,               /* TLS: receives before others have their turn */
    SYSCALL_EPOLL_PWAIT2 = 441,         /* Linux 5.11; older headers do not know it */
};

/* ---- errors and ends */

void give_up(struct load *load, const char *format, ...) {
    va_list arguments;
    if (load->failed) return;
    load->failed = true;
    va_start(arguments, format);
    vsnprintf(load->detail, DETAIL_TEXT, format, arguments);
    va_end(arguments);
}

static void note(struct load *load, const struct connection *c, const char *name, const char *format, va_list arguments) {
    struct summary *summary = &load->summary;
    unsigned i = 0;
    if (load->closing) return;
    if (!load->detail[0]) {
        int length = snprintf(load->detail, DETAIL_TEXT, "connection %u: %s: ", index_of(load, c), name);
        if (length < DETAIL_TEXT) vsnprintf(load->detail + length, (size_t)(DETAIL_TEXT - length), format, arguments);
    }
    while (i < summary->error_count && strncmp(summary->errors[i].text, name, ERROR_TEXT - 1)) i++;
    if (i == MAX_ERRORS) i--;
    if (i == summary->error_count) {
        snprintf(summary->errors[i].text, ERROR_TEXT, "%s", i + 1 == MAX_ERRORS ? "other" : name);
        summary->error_count++;
    }
    summary->errors[i].count++;
}

void note_error(struct load *load, const struct connection *c, const char *name, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note(load, c, name, format, arguments);
    va_end(arguments);
}

void lose(struct load *load, struct connection *c, const char *name, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note(load, c, name, format, arguments);
    va_end(arguments);
    drop(load, c, true);
}

static bool is_opening(const struct connection *c) { return c->state >= WAITING && c->state <= UPGRADING; }

void wait_for_tick(struct load *load, struct connection *c) {
    c->state = WAITING;
    if (!c->listed) load->waiting[load->waiting_count++] = index_of(load, c);
    c->listed = true;
}

/* Closes, and frees what belongs to this opening. */
static void end_connection(struct load *load, struct connection *c, bool reset) {
    carrier_close(load, c, reset);
    inflater_free(c);
    load->unanswered -= c->due.count;
    free(c->parser), free(c->response), free(c->control), free(c->due.ns);
    c->parser = NULL, c->response = NULL, c->control = NULL;
    memset(&c->due, 0, sizeof c->due);
    c->response_length = c->control_length = c->control_sent = c->again = 0;
    c->writing = c->parsing = false;
}

void drop(struct load *load, struct connection *c, bool reset) {
    uint8_t was = c->state;
    if (was == CLOSED) return;
    if (is_opening(c)) load->opening--;
    end_connection(load, c, reset);
    c->state = CLOSED;
    if (was == CLOSING) load->closing_count--;
    if (was == OPEN) {
        uint32_t last = load->live[--load->live_count];
        load->live[c->live] = last;
        load->connections[last].live = c->live;
        if (load->plan.mode == FANOUT && outstanding(load, c) && load->missing) load->missing--;
    }
    c->send_due = 0, c->answered = c->asked = 0, c->sent = 0;
    if (load->plan.mode == STORM && !load->stopped) {
        load->opening++;
        wait_for_tick(load, c);
    }
}

/* ---- opening */

static void write_request(struct load *load, struct connection *c) {
    const size_t length = load->keys[c->key].length;
    while (c->sent < length) {
        ssize_t taken = carrier_send(load, c, load->keys[c->key].request + c->sent, length - c->sent);
        if (taken < 0) return;
        if (taken == 0) {
            want_writing(load, c, true);
            return;
        }
        c->sent += (size_t)taken;
        load->summary.sent_bytes += (uint64_t)taken;
    }
    c->sent = 0;
    c->state = UPGRADING;
    want_writing(load, c, false);
}

static void shake(struct load *load, struct connection *c) {
    ssize_t done = carrier_shake(load, c);
    if (done == ENDED) lose(load, c, "bad handshake: closed", "during that of TLS");
    if (done <= 0) return;
    c->state = REQUESTING;
    write_request(load, c);
}

static void connect_now(struct load *load, struct connection *c) {
    start_connecting(load, c);
    if (c->state == SHAKING) shake(load, c);
    else if (c->state == REQUESTING) write_request(load, c);
}

static void open_anew(struct load *load, struct connection *c, uint64_t now) {
    load->opening++;
    c->state = WAITING;
    c->began_ns = c->heard_ns = now;
    connect_now(load, c);
}

static void open_more(struct load *load, uint64_t now) {
    const struct plan *plan = &load->plan;
    uint32_t allowed = plan->connections, at_once = plan->mode == STORM ? allowed : OPENING_AT_ONCE;
    if (load->stopped) return;
    if (plan->ramp > 0 && load->next_to_open < allowed) {
        double part = (double)(now - load->begun_ns) / (plan->ramp * 1e9) * allowed;
        if (part < allowed - 1) allowed = (uint32_t)part + 1;
    }
    while (load->next_to_open < allowed && load->opening < at_once && !load->failed)
        open_anew(load, &load->connections[load->next_to_open++], now);
}

static void on_tick(struct load *load, uint64_t now) {
    uint32_t count = load->waiting_count;
    if (now < load->tick_ns) return;
    load->tick_ns = now + TICK_NS;
    /* Those that fail again are put behind the others. */
    for (uint32_t i = 0; i < count && !load->failed; i++) {
        struct connection *c = &load->connections[load->waiting[i]];
        c->listed = false;
        if (c->state != WAITING) continue;
        if (load->stopped) {
            drop(load, c, true);
            continue;
        }
        if (load->plan.mode == STORM) c->began_ns = c->heard_ns = now;
        connect_now(load, c);
    }
    memmove(load->waiting, load->waiting + count, (load->waiting_count - count) * sizeof *load->waiting);
    load->waiting_count -= count;
}

/* Connections do not begin at the same message, so that no two say the same at a time; in fanout, all expect the same. */
static void choose_messages(struct load *load, struct connection *c) {
    uint32_t batch = load->plan.in_flight, groups = load->pool.count / batch, number = index_of(load, c);
    if (load->plan.mode != ECHO) return;
    if (!groups) groups = load->pool.count, batch = 1;
    uint32_t group = load->plan.connections <= groups ? (uint32_t)((uint64_t)number * groups / load->plan.connections) : number % groups;
    c->send_at = c->reply_at = group * batch;
}

static void on_open(struct load *load, struct connection *c, uint64_t now) {
    load->summary.handshakes++;
    record(load->summary.handshake_latencies, now - c->began_ns, 1);
    load->opening--;
    if (load->plan.mode == STORM) {
        record(load->summary.latencies, now - c->began_ns, 1);
        end_connection(load, c, true);
        c->state = CLOSED;
        if (!load->stopped) open_anew(load, c, clock_ns(CLOCK_MONOTONIC));
        return;
    }
    if (is_stuck(load, c)) {
        if (epoll_ctl(load->poller, EPOLL_CTL_DEL, c->fd, NULL) < 0) give_up(load, "epoll_ctl: %s", strerror(errno));
        c->state = STUCK;
        load->opened_stuck++;
        return;
    }
    c->state = OPEN;
    c->live = load->live_count;
    load->live[load->live_count++] = index_of(load, c);
    choose_messages(load, c);
    if (load->plan.mode == ECHO && load->started && !load->stopped && !load->plan.rate) start_batch(load, c, now);
}

/* ---- events */

static void on_end(struct load *load, struct connection *c) {
    if (c->state == CLOSING) drop(load, c, false);
    else if (c->state == OPEN) lose(load, c, "closed 1006", "without a Close frame");
    else lose(load, c, "bad handshake: closed", "by the server");
}

/* Returns whether there is more to receive now. */
static bool receive(struct load *load, struct connection *c) {
    for (int i = 0; i < RECORDS_AT_ONCE; i++) {
        ssize_t size = carrier_receive(load, c, load->buffer, BUFFER), taken = 0;
        if (size == ENDED) on_end(load, c);
        if (size <= 0) return false;
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        c->heard_ns = now;
        load->summary.received_bytes += (uint64_t)size;
        if (c->state == UPGRADING) {
            taken = read_response(load, c, load->buffer, (size_t)size);
            if (taken < 0) return false;
            if (taken) on_open(load, c, now);
        }
        if (c->state == OPEN && taken < size && !read_answers(load, c, load->buffer + taken, (size_t)(size - taken), now)) return false;
        if (load->failed) return false;
        if (!c->ssl) return size == BUFFER;
    }
    /* What libssl holds makes no socket readable; that this one is writable will be told at once. */
    want_writing(load, c, true);
    return true;
}

static void on_event(struct load *load, struct connection *c, uint32_t events) {
    switch (c->state) {
    case SHAKING:
        shake(load, c);
        return;
    case REQUESTING:
        write_request(load, c);
        return;
    case OPEN: case UPGRADING: case CLOSING:
        break;
    default:        /* closed by another event of this turn */
        return;
    }
    bool writing = c->writing && events & EPOLLOUT, more = false;
    if (c->ssl && writing) want_writing(load, c, false);
    if (c->ssl || events & ~(uint32_t)EPOLLOUT) more = receive(load, c);
    /* A server that is written to faster than it is read from would have to keep the difference. */
    if (!writing || c->state != OPEN || (more && !c->ssl) || !write_due(load, c)) return;
    /* As receive() has left it: what libssl still holds is to be told of, though all is written. */
    if (more) want_writing(load, c, true);
}

static void find_silent(struct load *load, uint64_t now) {
    uint64_t limit_ns = (uint64_t)(load->plan.timeout * 1e9);
    if (now < load->scan_ns) return;
    load->scan_ns = now + (limit_ns / 4 < 1000000000 ? limit_ns / 4 : 1000000000);
    for (uint32_t i = 0; i < load->next_to_open; i++) {
        struct connection *c = &load->connections[i];
        uint64_t since = is_opening(c) ? c->began_ns : c->state == OPEN ? oldest_due(load, c) : 0;
        if (!since) continue;
        if (since < c->heard_ns) since = c->heard_ns;
        if (now > since && now - since > limit_ns) lose(load, c, "timeout", "nothing for %.1f seconds", load->plan.timeout);
    }
}

/* fanout: a publication may have ended with the loss of a connection. */
static void go_on(struct load *load, uint64_t now) {
    if (load->plan.mode != FANOUT || load->closing) return;
    bool all = load->next_to_open == load->plan.connections && !load->opening;
    if (load->plan.stuck && all && !load->filling && !load->full) begin_filling(load, now);
    else if (load->filling && !load->missing) publish(load, now);
    else if (load->started && !load->missing && !load->plan.rate && !load->stopped && load->live_count) publish(load, now);
}

static int wait_ready(struct load *load, struct epoll_event events[EVENTS], uint64_t now, uint64_t until) {
    static bool coarse;             /* another thread may set it too, to the same */
    uint64_t left = until > now ? until - now : 0;
    if (!coarse) {
        /* The kernel's own timespec, of 64 bits everywhere. */
        struct { int64_t seconds, nanoseconds; } time = {(int64_t)(left / 1000000000), (int64_t)(left % 1000000000)};
        long ready = syscall(SYSCALL_EPOLL_PWAIT2, load->poller, events, EVENTS, &time, NULL, 0);
        if (ready >= 0 || errno != ENOSYS) return (int)ready;
        coarse = true;
    }
    return epoll_wait(load->poller, events, EVENTS, (int)(left / 1000000));
}

void turn(struct load *load, uint64_t end_ns) {
    struct epoll_event events[EVENTS];
    uint64_t now = clock_ns(CLOCK_MONOTONIC), until = end_ns, next;
    open_more(load, now);
    on_tick(load, now);
    find_silent(load, now);
    go_on(load, now);
    next = keep_schedule(load, now);
    if (load->failed) return;
    if (next < until) until = next;
    if (load->next_to_open < load->plan.connections || load->waiting_count)
        until = load->tick_ns < until ? load->tick_ns : until;
    if (load->scan_ns < until) until = load->scan_ns;
    int ready = wait_ready(load, events, clock_ns(CLOCK_MONOTONIC), until);
    if (ready < 0 && errno != EINTR) give_up(load, "epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready && !load->failed; i++) on_event(load, events[i].data.ptr, events[i].events);
}
