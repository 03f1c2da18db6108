/* The load: WebSocket clients in one thread, on epoll, that check every byte of every answer.
 *
 *     load MODE [options] PORT|unix:PATH            prints one JSON object; the status is 0 when all answers were right
 *
 *   echo        each of -c connections writes -p messages at once, waits for the -p answers, and goes on
 *   fanout      one of -c connections writes -p messages at once; the server sends each to all -c; when all have
 *               arrived everywhere it goes on. Counted: deliveries
 *   handshake   -c connections at a time are opened, upgraded and dropped
 *   idle        -c connections are opened and held until stdin ends, or for -d seconds; prints "holding N"
 *
 *   -c N                connections (1)
 *   -p N                messages in flight on each (1)
 *   -s N                payload bytes (64)
 *   -d SECONDS          length of the measured window (3)
 *   --warmup SECONDS    before it (0.5)
 *   --kind KIND         binary; ascii: text; mixed: text, code points of 1 byte (half of them), 2, 3 and 4 bytes
 *   --server-pid PID    report this process's CPU time in the window, and how long it waited for a core
 *   --plain-request     the five header fields that are required, not the thirteen that a browser sends
 *
 * An answer must be the frame that RFC 6455 5.2 leaves one way to write: unfragmented, unmasked, its length in the
 * shortest form. So the expected bytes are known beforehand, and checking is one memcmp. Payloads differ from connection
 * to connection and from batch to batch, masking keys from message to message; they are made before the clock starts.
 *
 * Sources are spread over 127.0.0.2-127.0.0.201, for more ports than one address has. Handshakes end with a reset
 * (SO_LINGER 0): it leaves no TIME_WAIT behind on either side, which would slow down what is measured next. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "accept_key.h"
#include "figures.h"

enum {
    SOURCES = 200,
    KEYS = 256,
    OPENING_AT_ONCE = 128,
    MAX_RESPONSE = 4096,
    BUFFER = 128 * 1024,        /* small enough to be compared while it is in the cache */
    BATCH_RING = 64 * 1024,     /* bytes of different batches for each connection, about */
    EVENTS = 256,
    STALL_SECONDS = 20,
};

enum mode { ECHO, FANOUT, HANDSHAKE, IDLE };
enum kind { BINARY, ASCII, MIXED };
enum state { CLOSED, CONNECTING, UPGRADING, OPEN };

struct connection {
    int fd;
    enum state state;
    bool writing;               /* EPOLLOUT is armed */
    unsigned key;               /* which of the prepared keys it sent */
    uint64_t began_ns;          /* opening it, or writing the batch */
    uint8_t *requests;          /* `batches` batches, each of batch_request bytes */
    uint8_t *replies;           /* the answers to them */
    unsigned batch;             /* which is under way */
    size_t written, received;   /* bytes of the batch */
    char *response;             /* to the upgrade, while it is not whole */
    size_t response_length;
};

static struct {
    enum mode mode;
    enum kind kind;
    int connections, in_flight, server_pid, port;
    const char *path;
    size_t payload;
    double seconds, warmup;
    bool plain_request;
} options = {.connections = 1, .in_flight = 1, .payload = 64, .seconds = 3, .warmup = 0.5};

static struct connection *connections;
static int poller, opened, holding;
static size_t request_size, reply_size, batch_request, batch_reply;
static unsigned batches;
static int deliveries_missing;              /* fanout: connections that have not had the whole batch */
static uint64_t messages, handshakes, now_ns;
static uint8_t buffer[BUFFER];
static struct { char request[1024]; size_t length; char accept[ACCEPT_LENGTH + 1]; } keys[KEYS];

__attribute__((noreturn, format(printf, 1, 2)))
static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
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

/* ---- messages */

static void fill(uint8_t *payload, size_t size) {
    size_t i = 0;
    while (i < size) {
        uint64_t bits = random_bits();
        size_t left = size - i;
        if (options.kind == BINARY) {
            memcpy(payload + i, &bits, left < 8 ? left : 8);
            i += left < 8 ? left : 8;
            continue;
        }
        unsigned bytes = options.kind == MIXED && bits & 1 ? 2 + (bits >> 1) % 3 : 1;
        if (bytes > left) bytes = 1;
        bits >>= 8;
        uint32_t point;
        switch (bytes) {
        case 1: payload[i] = (uint8_t)(0x20 + bits % 95); break;
        case 2:
            point = 0x80 + bits % (0x800 - 0x80);
            payload[i] = (uint8_t)(0xC0 | point >> 6);
            break;
        case 3:
            point = 0x800 + bits % (0xD800 - 0x800);        /* below the surrogates */
            payload[i] = (uint8_t)(0xE0 | point >> 12), payload[i + 1] = 0x80 | (point >> 6 & 0x3F);
            break;
        default:
            point = 0x10000 + bits % (0x110000 - 0x10000);
            payload[i] = (uint8_t)(0xF0 | point >> 18), payload[i + 1] = 0x80 | (point >> 12 & 0x3F);
            payload[i + 2] = 0x80 | (point >> 6 & 0x3F);
        }
        if (bytes > 1) payload[i + bytes - 1] = 0x80 | (point & 0x3F);
        i += bytes;
    }
}

static uint8_t *put_header(uint8_t *to, size_t length, bool masked) {
    *to++ = 0x80 | (options.kind == BINARY ? 2 : 1);
    int extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
    *to++ = (uint8_t)((masked ? 0x80 : 0) | (extended == 0 ? length : extended == 2 ? 126 : 127));
    for (int i = extended - 1; i >= 0; i--) *to++ = (uint8_t)((uint64_t)length >> 8 * i);
    return to;
}

static void prepare_messages(void) {
    size_t header = 2 + (options.payload < 126 ? 0 : options.payload < 65536 ? 2 : 8);
    reply_size = header + options.payload;
    request_size = reply_size + 4;
    batch_request = request_size * options.in_flight;
    batch_reply = reply_size * options.in_flight;
    batches = (unsigned)(BATCH_RING / batch_request);
    batches = batches < 2 ? 2 : batches > 16 ? 16 : batches;
    int writers = options.mode == FANOUT ? 1 : options.connections;
    for (int i = 0; i < writers; i++) {
        uint8_t *request = connections[i].requests = malloc(batches * batch_request);
        uint8_t *reply = connections[i].replies = malloc(batches * batch_reply);
        if (!request || !reply) fail("no memory for the messages");
        for (unsigned j = 0; j < batches * options.in_flight; j++) {
            uint8_t *payload = put_header(reply, options.payload, false), key[4];
            uint32_t bits = (uint32_t)(random_bits() >> 32);
            fill(payload, options.payload);
            memcpy(key, &bits, 4);
            uint8_t *to = put_header(request, options.payload, true);
            memcpy(to, key, 4);
            for (size_t k = 0; k < options.payload; k++) to[4 + k] = payload[k] ^ key[k % 4];
            request += request_size, reply += reply_size;
        }
    }
    for (int i = writers; i < options.connections; i++) connections[i].replies = connections[0].replies;
}

static void prepare_keys(void) {
    static const char browser[] =
        "Pragma: no-cache\r\nCache-Control: no-cache\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
        "Safari/537.36\r\n"
        "Origin: http://127.0.0.1\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
        "Cookie: session=0123456789abcdef0123456789abcdef\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    char accept[ACCEPT_LENGTH];
    accept_for_key(accept, "dGhlIHNhbXBsZSBub25jZQ==");     /* RFC 6455 1.3 */
    if (memcmp(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", ACCEPT_LENGTH)) fail("accept_for_key is broken");
    for (int i = 0; i < KEYS; i++) {
        uint64_t bits[2] = {random_bits(), random_bits()};
        char key[KEY_LENGTH + 1] = {0};
        base64(key, (uint8_t *)bits, 16);
        accept_for_key(keys[i].accept, key);
        keys[i].length = (size_t)snprintf(keys[i].request, sizeof keys[i].request,
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
            options.port, options.plain_request ? "" : browser, key);
    }
}

/* ---- connections */

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0) fail("epoll_ctl: %s", strerror(errno));
}

static int index_of(const struct connection *c) { return (int)(c - connections); }

/* Bytes of data[from..size) that the socket took. */
static size_t write_some(struct connection *c, const void *data, size_t from, size_t size) {
    ssize_t sent = send(c->fd, (const char *)data + from, size - from, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != ENOTCONN) fail("connection %d: send: %s", index_of(c), strerror(errno));
        sent = 0;
    }
    bool writing = from + sent < size;
    if (writing != c->writing) watch(c, EPOLL_CTL_MOD, EPOLLIN | (writing ? EPOLLOUT : 0));
    c->writing = writing;
    return from + sent;
}

static void start_connecting(struct connection *c) {
    static unsigned next;
    int on = 1, error;
    c->fd = socket(options.path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    c->began_ns = clock_ns(CLOCK_MONOTONIC);
    c->key = next++ % KEYS;
    if (options.path) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strncpy(to.sun_path, options.path, sizeof to.sun_path - 1);
        error = connect(c->fd, (struct sockaddr *)&to, sizeof to);
    } else {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7F000002 + next % SOURCES)};
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                 .sin_port = htons(options.port)};
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0) fail("bind: %s", strerror(errno));
        error = connect(c->fd, (struct sockaddr *)&to, sizeof to);
    }
    if (error < 0 && errno != EINPROGRESS) fail("connect: %s", strerror(errno));
    c->state = CONNECTING;
    c->writing = false;
    c->written = c->response_length = 0;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    c->written = write_some(c, keys[c->key].request, 0, keys[c->key].length);
    if (!c->writing) c->state = UPGRADING;
}

static void drop(struct connection *c) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(c->fd);
    c->state = CLOSED;
}

static const char *field(const char *response, const char *name) {
    size_t length = strlen(name);
    for (const char *line = response; (line = strstr(line, "\r\n")); ) {
        line += 2;
        if (!strncasecmp(line, name, length) && line[length] == ':') return line + length + 1 + strspn(line + length + 1, " ");
    }
    return NULL;
}

static bool is_value(const char *value, const char *wanted) {
    size_t length = strlen(wanted);
    return value && !strncasecmp(value, wanted, length) && strspn(value + length, " \t") == strcspn(value + length, "\r");
}

/* Returns true when the whole response has come, and is right. */
static bool read_response(struct connection *c) {
    if (!c->response && !(c->response = malloc(MAX_RESPONSE + 1))) fail("no memory");
    ssize_t got = recv(c->fd, c->response + c->response_length, MAX_RESPONSE - c->response_length, 0);
    if (got < 0 && errno == EAGAIN) return false;
    if (got < 0) fail("connection %d, upgrading: %s", index_of(c), strerror(errno));
    if (got == 0) fail("connection %d: closed by the server, or over %d bytes, while upgrading", index_of(c), MAX_RESPONSE);
    c->response_length += got;
    c->response[c->response_length] = 0;
    char *end = strstr(c->response, "\r\n\r\n");
    if (!end) return false;
    end[2] = 0;
    const char *accept = field(c->response, "Sec-WebSocket-Accept");
    if (strncmp(c->response, "HTTP/1.1 101 ", 13)) fail("connection %d: not upgraded: %.60s", index_of(c), c->response);
    if (!accept || strncmp(accept, keys[c->key].accept, ACCEPT_LENGTH) || accept[ACCEPT_LENGTH] != '\r')
        fail("connection %d: wrong Sec-WebSocket-Accept: %.60s", index_of(c), accept ? accept : "(none)");
    if (!is_value(field(c->response, "Upgrade"), "websocket") || !is_value(field(c->response, "Connection"), "upgrade"))
        fail("connection %d: wrong Upgrade or Connection field", index_of(c));
    if (field(c->response, "Sec-WebSocket-Extensions")) fail("connection %d: compression, which was to be off", index_of(c));
    if (end + 4 != c->response + c->response_length) fail("connection %d: data before any was due", index_of(c));
    if (options.mode != HANDSHAKE) {
        free(c->response);
        c->response = NULL;
    }
    return true;
}

/* ---- what is measured */

static void write_batch(struct connection *c) {
    c->written = write_some(c, c->requests + c->batch * batch_request, c->written, batch_request);
}

static void start_batch(struct connection *c) {
    c->began_ns = clock_ns(CLOCK_MONOTONIC);
    c->written = c->received = 0;
    write_batch(c);
}

static void start_fanout(void) {
    unsigned batch = (connections[0].batch + 1) % batches;
    deliveries_missing = options.connections;
    for (int i = 0; i < options.connections; i++) connections[i].batch = batch, connections[i].received = 0;
    start_batch(&connections[0]);
}

static void explain_mismatch(const struct connection *c, const uint8_t *wanted, size_t size) {
    size_t i = 0;
    while (buffer[i] == wanted[i] && i + 1 < size) i++;
    size_t at = (c->received + i) % reply_size, header = reply_size - options.payload;
    fail("connection %d: wrong answer: byte %zu of the frame, in its %s, is 0x%02X and not 0x%02X", index_of(c), at,
         at == 0 ? "FIN and opcode" : at < header ? "length" : "payload", buffer[i], wanted[i]);
}

static void read_answers(struct connection *c) {
    ssize_t got = recv(c->fd, buffer, BUFFER, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) fail("connection %d: recv: %s", index_of(c), strerror(errno));
    if (got == 0) fail("connection %d: closed by the server", index_of(c));
    if (options.mode == IDLE) fail("connection %d: data, where none was due", index_of(c));
    if (c->received + got > batch_reply) fail("connection %d: %zd bytes more than were due", index_of(c),
                                              (ssize_t)(c->received + got - batch_reply));
    const uint8_t *wanted = c->replies + c->batch * batch_reply + c->received;
    if (memcmp(buffer, wanted, got)) explain_mismatch(c, wanted, got);
    size_t before = c->received / reply_size;
    c->received += got;
    size_t answered = c->received / reply_size - before;
    if (answered) {
        messages += answered;
        uint64_t began_ns = options.mode == FANOUT ? connections[0].began_ns : c->began_ns;
        record(clock_ns(CLOCK_MONOTONIC) - began_ns, answered);
    }
    if (c->received < batch_reply) return;
    if (options.mode == ECHO) {
        c->batch = (c->batch + 1) % batches;
        start_batch(c);
    } else if (--deliveries_missing == 0) {
        start_fanout();
    }
}

static void on_event(struct connection *c, uint32_t events) {
    if (c->state == CONNECTING) {
        c->written = write_some(c, keys[c->key].request, c->written, keys[c->key].length);
        if (!c->writing) c->state = UPGRADING;
    } else if (c->state == UPGRADING) {
        if (!read_response(c)) return;
        handshakes++;
        if (options.mode == HANDSHAKE) {
            record(clock_ns(CLOCK_MONOTONIC) - c->began_ns, 1);
            drop(c);
            start_connecting(c);
            return;
        }
        c->state = OPEN;
        holding++;
        if (opened < options.connections) start_connecting(&connections[opened++]);
    } else {
        if (events & ~EPOLLOUT) read_answers(c);
        if (c->writing && events & EPOLLOUT) write_batch(c);
    }
}

/* Handles what is ready. Waits for wait_ms at most. */
static void turn(int wait_ms) {
    static struct epoll_event events[EVENTS];
    static uint64_t last_ns;
    int ready = epoll_wait(poller, events, EVENTS, wait_ms);
    if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    now_ns = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < ready; i++) on_event(events[i].data.ptr, events[i].events);
    if (ready > 0 || !last_ns) last_ns = now_ns;
    if (options.mode != IDLE && now_ns - last_ns > STALL_SECONDS * 1000000000ull)
        fail("nothing from the server for %d seconds", STALL_SECONDS);
}

static void run_for(double seconds) {
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e9);
    do turn(100);
    while (now_ns < end);
}

static void measure(void) {
    static const char *const names[] = {"echo", "fanout", "handshake"};
    run_for(options.warmup);
    memset(histogram, 0, sizeof histogram);
    uint64_t *counter = options.mode == HANDSHAKE ? &handshakes : &messages;
    uint64_t count = *counter, began = clock_ns(CLOCK_MONOTONIC);
    struct times own = times_of(getpid()), server = times_of(options.server_pid);
    run_for(options.seconds);
    struct times own_end = times_of(getpid()), server_end = times_of(options.server_pid);
    double window = (double)(clock_ns(CLOCK_MONOTONIC) - began);
    count = *counter - count;
    if (!count) fail("no answer in %.1f seconds", window / 1e9);
    double own_share = (double)(own_end.running - own.running) / window;
    double server_ns = (double)(server_end.running - server.running);
    printf("{\"mode\": \"%s\", \"connections\": %d, \"in_flight\": %d, \"payload\": %zu, \"seconds\": %.3f, "
           "\"count\": %lu, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"load_cpu_share\": %.3f, "
           "\"load_wait_share\": %.3f",
           names[options.mode], options.connections, options.in_flight, options.payload, window / 1e9, count,
           (double)count * 1e9 / window, percentile_us(0.5), percentile_us(0.99), own_share,
           (double)(own_end.waiting - own.waiting) / window);
    if (options.server_pid)
        printf(", \"server_cpu_us\": %.4f, \"server_cpu_share\": %.3f, \"server_wait_share\": %.3f, \"saturated\": %s",
               server_ns / 1e3 / (double)count, server_ns / window,
               (double)(server_end.waiting - server.waiting) / window,
               own_share >= 0.97 && server_ns / window < 0.95 ? "true" : "false");
    printf("}\n");
}

static void hold(void) {
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(options.seconds * 1e9);
    printf("holding %d\n", holding);
    fflush(stdout);
    do {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        char ignored[256];
        if (poll(&input, 1, 0) > 0 && read(0, ignored, sizeof ignored) <= 0) return;
        turn(100);
    } while (now_ns < end);
}

static void read_options(int argc, char **argv) {
    static const struct option longer[] = {
        {"kind", required_argument, NULL, 'k'}, {"warmup", required_argument, NULL, 'w'},
        {"server-pid", required_argument, NULL, 'P'}, {"plain-request", no_argument, NULL, 'R'}, {0}};
    static const char *const modes[] = {"echo", "fanout", "handshake", "idle"}, *const kinds[] = {"binary", "ascii", "mixed"};
    int option, mode = 0, kind = 0;
    while ((option = getopt_long(argc, argv, "c:p:s:d:", longer, NULL)) != -1) {
        switch (option) {
        case 'c': options.connections = atoi(optarg); break;
        case 'p': options.in_flight = atoi(optarg); break;
        case 's': options.payload = strtoul(optarg, NULL, 10); break;
        case 'd': options.seconds = atof(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 'P': options.server_pid = atoi(optarg); break;
        case 'R': options.plain_request = true; break;
        case 'k':
            while (kind < 3 && strcmp(optarg, kinds[kind])) kind++;
            break;
        default: exit(2);
        }
    }
    if (optind + 2 != argc) fail("usage: load MODE [options] PORT|unix:PATH; load.c begins with the manual");
    while (mode < 4 && strcmp(argv[optind], modes[mode])) mode++;
    if (mode == 4) fail("no mode %s", argv[optind]);
    if (kind == 3) fail("no such --kind");
    if (options.connections < 1 || options.in_flight < 1 || options.payload > 1 << 30 || options.seconds <= 0)
        fail("-c, -p or -d is not positive, or -s over 1 GiB");
    options.mode = mode;
    options.kind = kind;
    if (!strncmp(argv[optind + 1], "unix:", 5)) options.path = argv[optind + 1] + 5;
    else options.port = atoi(argv[optind + 1]);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if ((rlim_t)options.connections + 16 > files.rlim_max)
        fail("%d connections need a limit on open files (ulimit -Hn) above %lu", options.connections, files.rlim_max);
    connections = calloc(options.connections, sizeof *connections);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || poller < 0) fail("no memory, or no epoll");
    prepare_keys();
    if (options.mode == ECHO || options.mode == FANOUT) prepare_messages();

    int at_once = options.mode != HANDSHAKE && options.connections > OPENING_AT_ONCE ? OPENING_AT_ONCE : options.connections;
    while (opened < at_once) start_connecting(&connections[opened++]);
    if (options.mode != HANDSHAKE)
        for (uint64_t began = clock_ns(CLOCK_MONOTONIC); holding < options.connections; turn(100))
            if (clock_ns(CLOCK_MONOTONIC) - began > 120 * 1000000000ull)
                fail("%d of %d connections after 120 seconds", holding, options.connections);
    if (options.mode == ECHO)
        for (int i = 0; i < options.connections; i++) start_batch(&connections[i]);
    if (options.mode == FANOUT) start_fanout();
    if (options.mode == IDLE) hold();
    else measure();
    return 0;
}
