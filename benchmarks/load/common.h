/* What every part of the load reads: its options, its connections, its clock, and the way it gives up. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum mode { ECHO, FANOUT, HANDSHAKE, IDLE };
enum kind { BINARY, ASCII, MIXED, TICKER };
enum state { CLOSED, CONNECTING, UPGRADING, OPEN, STUCK };

struct inflater;                /* answers.h */

struct connection {
    int fd;
    enum state state;
    bool writing;               /* EPOLLOUT is armed */
    unsigned key;               /* which of the prepared keys it sent */
    uint64_t began_ns;          /* opening it, or writing the batch */
    uint8_t *requests;          /* `batches` batches; batch i is [request_at[i], request_at[i + 1]) */
    size_t *request_at;
    uint8_t *replies;           /* the answers to them, each batch of batch_reply bytes; --deflate: the payloads alone */
    unsigned batch;             /* which is under way */
    size_t written, received;   /* bytes of the batch */
    char *response;             /* to the upgrade, while it is not whole */
    size_t response_length;
    struct inflater *inflater;  /* --deflate: where in a compressed answer it is */
};

static struct {
    enum mode mode;
    enum kind kind;
    int connections, in_flight, server_pid, port, stuck;
    const char *path;
    size_t payload;
    double seconds, warmup;
    bool plain_request, deflate, server_no_context;
} options = {.connections = 1, .in_flight = 1, .payload = 64, .seconds = 3, .warmup = 0.5};

static struct connection *connections;

static inline int index_of(const struct connection *c) { return (int)(c - connections); }

__attribute__((noreturn, format(printf, 1, 2)))
static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) fail("no memory for %zu bytes", size);
    return memory;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static uint64_t random_bits(void) {         /* xorshift64*, seeded alike in every run */
    static uint64_t state = 0x9E3779B97F4A7C15;
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return state * 0x2545F4914F6CDD1D;
}
