/* What a caller of the load sees: its life, and what it tells. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "state.h"

enum { OTHER_FILES = 64 };              /* descriptors that are not connections */

static bool allow_files(struct load *load) {
    struct rlimit files;
    rlim_t needed = (rlim_t)load->plan.connections + OTHER_FILES;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= needed) return true;
    if (files.rlim_max < needed) {
        give_up(load, "connections is %u, limit is %llu in one process: raise that on open files (ulimit -Hn)", load->plan.connections,
                (unsigned long long)(files.rlim_max > OTHER_FILES ? files.rlim_max - OTHER_FILES : 0));
        return false;
    }
    files.rlim_cur = needed;
    setrlimit(RLIMIT_NOFILE, &files);
    return true;
}

static bool prepare(struct load *load, const struct plan *plan) {
    uint32_t count = plan->connections;
    load->poller = epoll_create1(EPOLL_CLOEXEC);
    if (load->poller < 0) {
        give_up(load, "epoll_create1: %s", strerror(errno));
        return false;
    }
    if (!allow_files(load) || !carrier_prepare(load, plan)) return false;
    load->connections = calloc(count, sizeof *load->connections);
    load->live = calloc(count, sizeof *load->live);
    load->waiting = calloc(2 * (size_t)count, sizeof *load->waiting);
    load->flush = calloc(count, sizeof *load->flush);
    bool made = load->connections && load->live && load->waiting && load->flush && prepare_keys(load, plan);
    for (uint32_t i = 0; made && i < count; i++) load->connections[i].fd = -1;
    if (made && (plan->mode == ECHO || plan->mode == FANOUT))
        made = pool_make(load, &load->pool, plan->sizes, plan->weights, plan->size_count);
    if (!made) give_up(load, "no memory for %u connections and their messages", count);
    return made;
}

struct load *load_new(const struct plan *plan, char detail[DETAIL_TEXT]) {
    struct load *load = calloc(1, sizeof *load);
    if (!load) {
        snprintf(detail, DETAIL_TEXT, "no memory");
        return NULL;
    }
    load->plan = *plan;
    load->poller = -1;
    load->random = 0x9E3779B97F4A7C15 ^ plan->seed * 0xD1342543DE82EF95;
    if (!load->random) load->random = 1;
    if (plan->rate > 0) load->interval_ns = 1e9 / plan->rate;
    bool made = prepare(load, plan);
    load->plan.address = load->plan.unix_path = load->plan.request = load->plan.subprotocols = NULL;
    load->plan.server_name = load->plan.cafile = NULL;
    load->plan.sizes = NULL, load->plan.weights = NULL;
    if (made) return load;
    memcpy(detail, load->detail, DETAIL_TEXT);
    load_free(load);
    return NULL;
}

void load_free(struct load *load) {
    if (!load) return;
    load->stopped = load->closing = true;       /* nothing is opened anew */
    for (uint32_t i = 0; load->connections && i < load->next_to_open; i++) drop(load, &load->connections[i], true);
    if (load->poller >= 0) close(load->poller);
    for (unsigned i = 0; i < KEYS; i++) free(load->keys[i].request);
    pool_free(&load->pool);
    pool_free(&load->measured_pool);
    carrier_free(load);
    free(load->connections), free(load->live), free(load->waiting), free(load->flush), free(load->subprotocols);
    free(load);
}

/* How long this thread has been ready to run and waited for a core; 0 where the kernel does not say. */
static uint64_t waited_ns(void) {
    char text[96];
    unsigned long long running, waiting = 0;
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0) return 0;
    text[size] = 0;
    return sscanf(text, "%llu %llu", &running, &waiting) == 2 ? waiting : 0;
}

static bool goes_on(const struct load *load) { return !load->failed && !(load->plan.strict && load->summary.error_count); }

bool load_run(struct load *load, double seconds) {
    uint64_t now = clock_ns(CLOCK_MONOTONIC), end = now + (uint64_t)(seconds * 1e9), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int slack = load->plan.rate > 0 ? prctl(PR_GET_TIMERSLACK) : -1;
    if (slack > 1) prctl(PR_SET_TIMERSLACK, 1);     /* nanoseconds; a schedule is kept better than by the usual 50,000 */
    uint64_t waited = waited_ns();
    if (!load->begun) load->begun = true, load->begun_ns = now;
    while (goes_on(load)) {
        turn(load, end);
        if (clock_ns(CLOCK_MONOTONIC) >= end) break;
    }
    if (slack > 1) prctl(PR_SET_TIMERSLACK, slack);
    load->summary.cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    load->summary.waited_ns += waited_ns() - waited;
    return goes_on(load);
}

bool load_start(struct load *load) {
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    uint32_t left = load->plan.connections - load->next_to_open + load->opening;
    if (load->plan.mode == STORM || load->plan.mode == IDLE) return true;
    if (load->started || load->stopped) {
        snprintf(load->detail, DETAIL_TEXT, "started or stopped before");
        return false;
    }
    if (load->plan.mode == FANOUT && (left || (load->plan.stuck && !load->full))) {
        snprintf(load->detail, DETAIL_TEXT, left ? "%u connections are not open yet" : "stuck connections are not full yet", left);
        return false;
    }
    load->started = true;
    load->schedule_ns = now;
    load->schedule_base = load->published;
    if (load->plan.rate || load->plan.mode == FANOUT) return true;
    /* Those that are lost meanwhile give their places to the last. */
    for (uint32_t i = load->live_count; i-- > 0; )
        if (i < load->live_count) start_batch(load, &load->connections[load->live[i]], clock_ns(CLOCK_MONOTONIC));
    return true;
}

void load_stop(struct load *load) { load->stopped = true; }

void load_close(struct load *load, double seconds) {
    uint64_t now = clock_ns(CLOCK_MONOTONIC), end = now + (uint64_t)(seconds * 1e9);
    uint8_t frame[MAX_CONTROL + 6];
    load->stopped = load->closing = true;
    for (uint32_t i = 0; i < load->next_to_open; i++) {
        struct connection *c = &load->connections[i];
        if (c->state != OPEN || c->sent || c->control_sent || c->again) {
            drop(load, c, true);
            continue;
        }
        carrier_say(load, c, frame, put_control(load, frame, 0x88, (const uint8_t *)"\x03\xE8", 2));
        want_writing(load, c, false);
        carrier_finish(load, c);
        c->state = CLOSING;
        load->closing_count++;
    }
    load->live_count = 0;
    while (load->closing_count && !load->failed && clock_ns(CLOCK_MONOTONIC) < end) turn(load, end);
    for (uint32_t i = 0; i < load->next_to_open; i++) drop(load, &load->connections[i], true);
}

unsigned load_opened(const struct load *load) {
    return load->live_count + (load->full ? load->opened_stuck : 0);
}

const struct summary *load_summary(struct load *load) {
    struct summary *summary = &load->summary;
    summary->late_now = summary->unanswered_now = 0;
    summary->stuck_closed_now = 0;
    summary->connections_now = load->live_count;
    for (uint32_t i = 0; i < load->live_count; i++) summary->unanswered_now += outstanding(load, &load->connections[load->live[i]]);
    for (uint32_t i = 0; load->plan.rate && i < load->live_count; i++) summary->late_now += load->connections[load->live[i]].send_due;
    if (load->plan.rate && load->started && !load->stopped) {
        uint64_t since = clock_ns(CLOCK_MONOTONIC) - load->schedule_ns, due = (uint64_t)((double)since / load->interval_ns);
        if (due > load->scheduled) summary->late_now += due - load->scheduled;
    }
    for (uint32_t i = load->plan.connections - load->plan.stuck; i < load->next_to_open; i++) {
        const struct connection *c = &load->connections[i];
        if (c->state != STUCK) continue;
        if (carrier_is_lost(c)) summary->stuck_closed_now++;
        else summary->connections_now++;
    }
    return summary;
}

void load_forget(struct load *load) { memset(&load->summary, 0, sizeof load->summary); }

const char *load_detail(const struct load *load) { return load->detail; }

uint64_t bucket_floor(size_t bucket) {
    uint64_t shift = bucket >> BUCKET_BITS;
    if (shift < 2) return bucket;
    return (((uint64_t)bucket & ((1 << BUCKET_BITS) - 1)) + (1 << BUCKET_BITS)) << (shift - 1);
}
