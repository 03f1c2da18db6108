/* The load: WebSocket clients in one thread, on an epoll of their own, that check every byte of every answer.
 *
 * It shares no code with the server, so that no fault is on both sides. In: a plan. Out: a summary of what happened.
 * Obeys RFC 6455 4.1 (opening, of a client), 5 (frames), 7 (closing) and RFC 7692 7 (permessage-deflate).
 *
 *   echo     each connection writes `in_flight` messages at once, waits for all the answers, and goes on; with a rate,
 *            each message is written when its time has come, whatever else is under way
 *   fanout   one connection writes, the server sends each message to all; when all have arrived everywhere, it goes on;
 *            with a rate, as above. Counted: deliveries; their latency is from the write to each
 *   storm    `connections` at a time are opened, upgraded and reset, and begin anew
 *   idle     connections are opened and held; Pings are answered
 *
 * An error costs the connection that it happened on, and is counted by its name; the others go on.
 *
 * Along the data: messages.c (what is sent, made beforehand), carrier.c and tls.c (sockets), opening.c (the handshake),
 * answers.c (what came back, compared: one memcmp where it is the frame that RFC 6455 5.2 leaves one way to write),
 * frames.c (all others), inflating.c, sending.c (what is written when, and what follows from an answer). loop.c runs
 * them; load.c is what a caller sees; figures.h, what is counted. Nothing here needs the GIL. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mode { ECHO, FANOUT, STORM, IDLE };
enum kind { BINARY, ASCII, UTF8, TICKER };

enum {
    MIN_TICKER = 128,                   /* bytes: below it a record would not fit */
    MAX_PAYLOAD = 256 * 1024 * 1024,
    MAX_ERRORS = 64,                    /* kinds told apart; more are one */
    ERROR_TEXT = 96,
    DETAIL_TEXT = 256,
    /* 1024 buckets for each power of two of nanoseconds, so three digits, up to 2**43 ns, which is over two hours. */
    BUCKETS = 34 * 1024,
};

/* What load_new() is given. Strings and arrays are borrowed for the call, and copied where they are needed later. */
struct plan {
    enum mode mode;
    enum kind kind;
    bool any;                           /* answers are counted, not compared */
    bool deflate, server_no_context;
    bool offers_deflate;                /* storm: as a browser does, and the server may accept */
    bool tls, insecure;
    bool strict;                        /* the first error ends load_run() */
    unsigned connections, stuck, in_flight, fragments, sources;
    double rate;                        /* messages/s; 0: closed loop */
    double ramp, timeout;               /* seconds */
    uint64_t seed;
    const char *address;                /* numeric; NULL: `unix_path` */
    const char *unix_path;
    unsigned port;
    const char *request;                /* the opening request, all but the Sec-WebSocket-Key field and the empty line */
    size_t request_length;
    const char *subprotocols;           /* those offered, each between commas: ",a,b,"; "" when none is */
    const char *server_name, *cafile;   /* TLS; cafile NULL: the system's store */
    const size_t *sizes;                /* payload bytes, and how often each comes */
    const double *weights;
    size_t size_count;
};

/* Since the last load_forget(), but for what `now` is in the name of. */
struct summary {
    uint64_t messages, handshakes, sent_bytes, received_bytes, uncompressed;
    uint64_t cpu_ns, waited_ns;         /* of load_run(): running, and ready to run while the cores did something else */
    uint64_t late_now;                  /* open loop: messages that are due and not written */
    uint64_t unanswered_now;            /* answers that are to come; fanout: deliveries */
    unsigned connections_now, stuck_closed_now;
    unsigned error_count;
    struct error_count { char text[ERROR_TEXT]; uint64_t count; } errors[MAX_ERRORS];
    uint64_t latencies[BUCKETS], handshake_latencies[BUCKETS];
};

struct load;

/* Returns NULL when the plan cannot be carried out; `detail` says why. */
struct load *load_new(const struct plan *plan, char detail[DETAIL_TEXT]);

/* Closes what is open, with a reset. */
void load_free(struct load *load);

/* Runs the loop for so long; connections are opened from the first call on.
 * Returns false when it cannot go on, or, in a strict plan, after the first error; load_detail() says what it was. */
bool load_run(struct load *load, double seconds);

/* Begins to send. Returns false when it is too early, or the second time; load_detail() says why. */
bool load_start(struct load *load);

/* Sends nothing new and opens no connection; what is under way may finish. */
void load_stop(struct load *load);

/* Sends Close frames with 1000, and closes each connection when the server has, or `seconds` have passed; those of a
 * storm, and what is in the middle of a message, are reset. */
void load_close(struct load *load, double seconds);

/* Connections that are open, without those that are yet to be filled (stuck) while they are. */
unsigned load_opened(const struct load *load);

/* Brings what ends in `_now` up to date. The summary stays the load's. */
const struct summary *load_summary(struct load *load);
void load_forget(struct load *load);
const char *load_detail(const struct load *load);

/* The lower end of a bucket, in nanoseconds. */
uint64_t bucket_floor(size_t bucket);
