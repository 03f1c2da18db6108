/* What every part of the load reads: the load, its connections, and how a part says that something was wrong. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "accept_key.h"
#include "figures.h"

enum {
    BUFFER = 128 * 1024,        /* bytes for each receive: small enough to be compared while it is in the cache */
    KEYS = 256,                 /* Sec-WebSocket-Keys, made beforehand */
    MAX_CONTROL = 125,          /* RFC 6455 5.5 */
    MAX_FRAME_HEADER = 10,      /* without a mask */
};

enum state { CLOSED, WAITING, CONNECTING, SHAKING, REQUESTING, UPGRADING, OPEN, STUCK, CLOSING };

/* A compressed answer that was inflated, and right: where no context is taken over, the same bytes are right again. */
struct known {
    uint8_t *data;
    size_t size;
};

/* Messages, and what must come back; shared by all connections, each of which begins at another one. */
struct pool {
    uint32_t count;
    struct known *known;                /* permessage-deflate: for each message; data is NULL while it has not come */
    uint8_t *requests, *replies;        /* frames as they are sent; one unmasked frame for each message */
    size_t *request_at, *reply_at;      /* message i is [at[i], at[i + 1]) */
};

/* Where the parser is; kept only by connections that had an answer which was no single shortest frame. */
struct parser {
    uint8_t header[MAX_FRAME_HEADER], header_length;
    bool in_payload;                    /* the header is whole */
    bool in_message;                    /* a fragment was not the last */
    bool compressed;                    /* RSV1 of the message's first frame */
    bool comparing;                     /* with what is known, of which `compared` bytes were the same */
    bool in_one;                        /* what was inflated came in one piece, `piece` */
    struct known piece;                 /* the last; borrowed from the load's buffer */
    size_t compared;
    uint64_t left;                      /* of the frame, bytes to come */
    uint64_t matched;                   /* of the message, bytes of the payload that were right */
    uint8_t control[MAX_CONTROL], control_length;
};

struct inflater;
struct ssl_st;

/* Intended times of what was due and is not answered: open loop, echo. A ring; its room is a power of two. */
struct times {
    uint64_t *ns;
    uint32_t head, count, room;
};

struct connection {
    int fd;
    uint8_t state;
    bool writing;                       /* EPOLLOUT is armed */
    bool server_context;                /* permessage-deflate: the server may refer to earlier messages, RFC 7692 7.1.1.1 */
    bool parsing;                       /* a frame of another form has begun */
    uint8_t key;                        /* which of the prepared keys it sent */
    bool flushing, listed;              /* it is in the load's `flush`, in its `waiting` */
    bool again_control;                 /* `again` is of control frames */
    uint32_t live;                      /* its place among the open ones */
    uint32_t asked, answered;           /* messages handed to it, and answers; fanout: `asked` is the load's `published` */
    uint32_t send_at, send_due;         /* in the pool: the message to write, or to go on with; how many */
    uint32_t reply_at;                  /* in the pool: the message whose answer comes next */
    size_t sent, matched;               /* bytes of it that were written; of the answer, that were right */
    uint64_t began_ns;                  /* opening it, or writing what is under way */
    uint64_t heard_ns;
    struct ssl_st *ssl;
    struct parser *parser;
    struct inflater *inflater;
    char *response;                     /* to the upgrade, while it is not whole */
    uint8_t *control;                   /* control frames to write when a message ends */
    uint32_t response_length, control_length, control_sent;
    uint32_t again;                     /* TLS: bytes that must be offered once more, as they were */
    struct times due;
};

struct tls;                             /* tls.h */

struct load {
    struct plan plan;                   /* its borrowed pointers are NULL */
    char detail[DETAIL_TEXT];
    bool failed;                        /* it cannot go on */
    bool begun, started, stopped, filling, full, closing;
    int poller;

    struct connection *connections;
    uint32_t *live, live_count;         /* those that are open, in no order; without the stuck */
    uint32_t *waiting, waiting_count;   /* those to be opened anew at the next tick */
    uint32_t *flush, flush_count;       /* those that have something due, for one turn */
    uint32_t next_to_open, opening, opened_stuck, closing_count;
    uint64_t begun_ns, tick_ns, scan_ns;

    union { struct sockaddr any; struct sockaddr_in ip4; struct sockaddr_in6 ip6; struct sockaddr_un path; } to;
    socklen_t to_size;
    struct { char *request; size_t length; char accept[ACCEPT_LENGTH]; } keys[KEYS];
    char *subprotocols;
    unsigned next_key, next_source;
    struct tls *tls;

    struct pool pool, measured_pool;    /* the second is that of what is measured, while stuck connections are filled */
    uint64_t random;

    /* the schedule of an open loop */
    uint64_t scheduled, schedule_ns;    /* messages that were handed out, since when */
    double interval_ns;
    uint32_t turn;                      /* whose turn it is, among `live` */
    uint64_t unanswered;                /* times that are kept */

    /* fanout */
    uint32_t publisher;
    uint32_t published, missing;        /* missing: connections that have not had all of what is under way */
    uint32_t schedule_base;             /* `published` when the schedule began */
    uint64_t batch_ns;
    size_t filled;                      /* bytes published to fill stuck connections */

    struct summary summary;
    uint8_t buffer[BUFFER];
};

static inline unsigned index_of(const struct load *load, const struct connection *c) {
    return (unsigned)(c - load->connections);
}

static inline bool is_stuck(const struct load *load, const struct connection *c) {
    return index_of(load, c) >= load->plan.connections - load->plan.stuck;
}

/* Answers that are to come. */
static inline uint32_t outstanding(const struct load *load, const struct connection *c) {
    return (load->plan.mode == FANOUT ? load->published : c->asked) - c->answered;
}

static inline uint64_t random_bits(struct load *load) {     /* xorshift64* */
    load->random ^= load->random >> 12, load->random ^= load->random << 25, load->random ^= load->random >> 27;
    return load->random * 0x2545F4914F6CDD1D;
}

/* The load cannot go on. */
__attribute__((format(printf, 2, 3)))
void give_up(struct load *load, const char *format, ...);

/* Counts an error by `name` (cut to ERROR_TEXT). `format` says more, for strict. */
__attribute__((format(printf, 4, 5)))
void note_error(struct load *load, const struct connection *c, const char *name, const char *format, ...);

/* The same, and drops the connection with a reset. Arguments may belong to the connection. */
__attribute__((format(printf, 4, 5)))
void lose(struct load *load, struct connection *c, const char *name, const char *format, ...);

/* Closes the descriptor, with a reset or not, and forgets what belonged to the connection. */
void drop(struct load *load, struct connection *c, bool reset);

/* ---- messages.c */

/* Returns false when there is no memory, or a message cannot be compressed. */
bool pool_make(struct load *load, struct pool *pool, const size_t *sizes, const double *weights, size_t size_count);
void pool_free(struct pool *pool);

static inline size_t header_size(uint64_t length) { return length < 126 ? 2 : length < 65536 ? 4 : 10; }

/* RFC 6455 5.2, the shortest form; no mask. Returns the end. */
uint8_t *put_header(uint8_t *to, uint8_t first, uint64_t length, bool masked);

/* ---- carrier.c */

/* Lists it for the next tick; it counts as opening. */
void wait_for_tick(struct load *load, struct connection *c);

bool carrier_prepare(struct load *load, const struct plan *plan);
void start_connecting(struct load *load, struct connection *c);

/* Bytes that the carrier took, 0 when it takes none now, -1 when the connection was lost. */
ssize_t carrier_send(struct load *load, struct connection *c, const void *data, size_t size);

/* Tries once, and does not mind: for what is said last. */
void carrier_say(struct load *load, struct connection *c, const void *data, size_t size);

/* Bytes received, 0 when there are none now, -1 when the connection was lost, ENDED when the
 * server has closed its side. */
enum { ENDED = -2 };
ssize_t carrier_receive(struct load *load, struct connection *c, void *to, size_t room);

/* TLS: 1 when its handshake is done, else as above. */
ssize_t carrier_shake(struct load *load, struct connection *c);
/* Says that nothing more will be written. */
void carrier_finish(struct load *load, struct connection *c);
void carrier_close(struct load *load, struct connection *c, bool reset);
void carrier_free(struct load *load);

/* Whether the server has closed a connection that is not read. */
bool carrier_is_lost(const struct connection *c);
void watch(struct load *load, struct connection *c, int operation, uint32_t events);
void want_writing(struct load *load, struct connection *c, bool writing);

/* ---- opening.c */

bool prepare_keys(struct load *load, const struct plan *plan);

/* Takes received bytes of the response. Returns the count of bytes that it took when the response is whole and right, 0
 * when more is to come, -1 when the connection was lost. */
ssize_t read_response(struct load *load, struct connection *c, const uint8_t *data, size_t size);

/* ---- answers.c, frames.c, inflating.c */

/* Compares what has come with what had to. Returns false when the connection was lost. */
bool read_answers(struct load *load, struct connection *c, const uint8_t *data, size_t size, uint64_t now);

/* Answers are complete: counts them, and goes on. Returns false when the connection was lost. */
bool answers_complete(struct load *load, struct connection *c, uint32_t count, uint64_t now);

/* The connection expects the next answer but `count - 1`. */
static inline void advance_reply(const struct load *load, struct connection *c, uint32_t count) {
    c->reply_at += count;
    if (c->reply_at >= load->pool.count) c->reply_at -= load->pool.count;
    c->matched = 0;
}

/* The payload that must come next. */
static inline const uint8_t *expected_payload(const struct load *load, const struct connection *c, size_t *size) {
    const struct pool *pool = &load->pool;
    const uint8_t *reply = pool->replies + pool->reply_at[c->reply_at], *end = pool->replies + pool->reply_at[c->reply_at + 1];
    const uint8_t *payload = reply + (reply[1] < 126 ? 2 : reply[1] == 126 ? 4 : 10);
    *size = (size_t)(end - payload);
    return payload;
}

/* Parses data[0..size). Returns how much it took: all, or less when it stands between two messages and the rest may be
 * compared the fast way again; -1 when the connection was lost. */
ssize_t read_frames(struct load *load, struct connection *c, const uint8_t *data, size_t size, uint64_t now);

/* A masked control frame of `size` <= MAX_CONTROL bytes. Returns its length; `to` has room for MAX_CONTROL + 6. */
size_t put_control(struct load *load, uint8_t *to, uint8_t first, const uint8_t *payload, size_t size);

/* Queues a control frame, or leaves it when too many are waiting. Returns false when the connection was lost. */
bool queue_control(struct load *load, struct connection *c, uint8_t first, const uint8_t *payload, size_t size);

void inflater_free(struct connection *c);

/* A compressed message begins. */
void inflate_begin(struct load *load, struct connection *c);

/* Inflates a part of the message and compares. Returns false when the connection was lost. */
bool inflate_part(struct load *load, struct connection *c, const uint8_t *data, size_t size);
bool inflate_end(struct load *load, struct connection *c);

/* A message was right: if it came in one piece, and is still in the load's buffer, its bytes are known from now on. */
void inflate_known(struct load *load, struct connection *c);

/* ---- sending.c */

/* Writes what is due, as far as the socket takes it. Returns false when the connection was lost. */
bool write_due(struct load *load, struct connection *c);

/* Hands the next `in_flight` messages to the connection; `now` is when. Returns false when it was lost. */
bool start_batch(struct load *load, struct connection *c, uint64_t now);

/* fanout: the publisher writes the next batch. */
void publish(struct load *load, uint64_t now);

/* Hands out what is due, and writes it. Returns when the next message is, UINT64_MAX when none will be. */
uint64_t keep_schedule(struct load *load, uint64_t now);

/* When the oldest message that this connection owes an answer for was written, or should have been; 0: it owes none. */
uint64_t oldest_due(const struct load *load, const struct connection *c);

/* fanout: sends what fills the stuck connections, then begins to measure. */
void begin_filling(struct load *load, uint64_t now);

/* ---- loop.c */

/* Handles what is ready; waits until `end_ns` at most. */
void turn(struct load *load, uint64_t end_ns);
