/* The load: WebSocket clients in one thread, on epoll, that check every byte of every answer.
 *
 *     load MODE [options] PORT|unix:PATH            prints one JSON object; the status is 0 when all answers were right
 *
 *   echo        each of -c connections writes -p messages at once, waits for the -p answers, and goes on
 *   fanout      one of -c connections writes -p messages at once; the server sends each to all -c; when all have
 *               arrived everywhere it goes on. Counted: deliveries; their latency is from that write to each
 *   handshake   -c connections at a time are opened, upgraded and dropped
 *   idle        -c connections are opened and held until stdin ends, or for -d seconds; prints "holding N"
 *
 *   -c N                connections (1)
 *   -p N                messages in flight on each (1)
 *   -s N                payload bytes (64)
 *   -d SECONDS          length of the measured window (3)
 *   --warmup SECONDS    before it (0.5)
 *   --kind KIND         binary; ascii: text; mixed: text, code points of 1 byte (half of them), 2, 3 and 4 bytes;
 *                       ticker: text, a market's news as JSON, of 256 bytes or more
 *   --stuck N           fanout: the last N of the connections read nothing after the opening handshake. Nothing is waited
 *                       for or counted on them; before the warm-up the server is sent enough to fill them
 *   --deflate           permessage-deflate; the kind is ticker unless another is named
 *   --server-no-context offer server_no_context_takeover as well, and insist on it
 *   --server-pid PID    report this process's CPU time in the window, and how long it waited for a core
 *   --plain-request     the five header fields that are required, not the thirteen that a browser sends
 *
 * An answer must be the frame that RFC 6455 5.2 leaves one way to write: unfragmented, unmasked, its length in the
 * shortest form. So the expected bytes are known beforehand, and checking is one memcmp. Payloads differ from connection
 * to connection and from batch to batch, masking keys from message to message; they are made before the clock starts.
 *
 * With --deflate there are many ways to write an answer. It must be one compressed frame, and is inflated, with a window
 * for each connection where the server takes context over, and compared. In fanout one connection in 16 does that; the
 * others check frames and count them, and that their lengths are the same where the server takes no context over.
 *
 * Sources are spread over 127.0.0.2-127.0.0.201, for more ports than one address has. Handshakes end with a reset
 * (SO_LINGER 0): it leaves no TIME_WAIT behind on either side, which would slow down what is measured next.
 *
 * Along the data: messages.h, opening.h, answers.h; figures.h is what it reports. */
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

#include "answers.h"
#include "common.h"
#include "figures.h"
#include "messages.h"
#include "opening.h"

enum {
    SOURCES = 200,
    OPENING_AT_ONCE = 128,
    EVENTS = 256,
    STALL_SECONDS = 20,
    STUCK_SEGMENT = 536,        /* bytes: a server's kernel sizes its send buffer by the segments that the peer takes */
    STUCK_BUFFER = 4096,
    STUCK_BYTES = 256 * 1024,   /* over what that kernel and the servers' own limits let wait for one connection */
    STUCK_PAYLOAD = 4096,       /* of the messages that fill them */
    STUCK_SECONDS = 60,         /* for a server to be sent that */
    DEFLATED = 6,               /* messages are larger than what comes of them by less */
};

static int poller, opened, holding;
static int deliveries_missing;              /* fanout: connections that have not had the whole batch */
static bool paused;                         /* fanout: nothing is published after what is under way */
static uint64_t messages, handshakes, received_bytes, now_ns;

/* ---- connections */

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0) fail("epoll_ctl: %s", strerror(errno));
}

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

static bool is_stuck(const struct connection *c) { return index_of(c) >= options.connections - options.stuck; }

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
        if (is_stuck(c)) {
            int segment = STUCK_SEGMENT, size = STUCK_BUFFER;
            setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
            setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        }
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

/* ---- what is measured */

static void write_batch(struct connection *c) {
    c->written = write_some(c, c->requests + c->request_at[c->batch], c->written,
                            c->request_at[c->batch + 1] - c->request_at[c->batch]);
}

static void start_batch(struct connection *c) {
    c->began_ns = clock_ns(CLOCK_MONOTONIC);
    c->written = c->received = 0;
    write_batch(c);
}

static void start_fanout(void) {
    unsigned batch = (connections[0].batch + 1) % batches;
    deliveries_missing = options.connections - options.stuck;
    for (int i = 0; i < options.connections; i++) connections[i].batch = batch, connections[i].received = 0;
    start_batch(&connections[0]);
}

static void read_answers(struct connection *c) {
    ssize_t got = recv(c->fd, buffer, BUFFER, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) fail("connection %d: recv: %s", index_of(c), strerror(errno));
    if (got == 0) fail("connection %d: closed by the server", index_of(c));
    if (options.mode == IDLE) fail("connection %d: data, where none was due", index_of(c));
    received_bytes += got;
    size_t answered = options.deflate ? check_deflated(c, got) : check_plain(c, got);
    if (answered) {
        messages += answered;
        uint64_t began_ns = options.mode == FANOUT ? connections[0].began_ns : c->began_ns;
        record(clock_ns(CLOCK_MONOTONIC) - began_ns, answered);
    }
    if (c->received < batch_reply) return;
    if (options.mode == ECHO) {
        c->batch = (c->batch + 1) % batches;
        start_batch(c);
    } else if (--deliveries_missing == 0 && !paused) {
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
        received_bytes += c->response_length;
        if (options.mode == HANDSHAKE) {
            record(clock_ns(CLOCK_MONOTONIC) - c->began_ns, 1);
            drop(c);
            start_connecting(c);
            return;
        }
        c->state = is_stuck(c) ? STUCK : OPEN;
        if (c->state == STUCK && epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL) < 0) fail("epoll_ctl: %s", strerror(errno));
        if (options.deflate && c->state == OPEN) prepare_inflater(c);
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

/* Publishes more than can wait for a stuck connection, in larger messages: from then on the server does what it does
 * about it. */
static void fill_stuck(void) {
    size_t payload = options.payload, filled = 0, enough = options.deflate ? DEFLATED * STUCK_BYTES : STUCK_BYTES;
    int in_flight = options.in_flight;
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + STUCK_SECONDS * 1000000000ull;
    options.payload = STUCK_PAYLOAD, options.in_flight = 1;
    prepare_messages();
    for (paused = true; filled < enough; filled += STUCK_PAYLOAD) {
        for (start_fanout(); deliveries_missing; turn(100))
            if (now_ns > end) fail("stuck connections not full after %d seconds", STUCK_SECONDS);
    }
    paused = false;
    free(connections[0].requests), free(connections[0].request_at), free(connections[0].replies);
    connections[0].batch = 0;
    options.payload = payload, options.in_flight = in_flight;
}

/* Stuck connections that the server has closed. */
static int lost(void) {
    int count = 0;
    for (int i = options.connections - options.stuck; i < options.connections; i++) {
        struct tcp_info info = {0};
        socklen_t size = sizeof info;
        getsockopt(connections[i].fd, IPPROTO_TCP, TCP_INFO, &info, &size);
        count += info.tcpi_state != TCP_ESTABLISHED;
    }
    return count;
}

static void measure(void) {
    static const char *const names[] = {"echo", "fanout", "handshake"};
    run_for(options.warmup);
    memset(histogram, 0, sizeof histogram);
    uint64_t *counter = options.mode == HANDSHAKE ? &handshakes : &messages;
    uint64_t count = *counter, bytes = received_bytes, began = clock_ns(CLOCK_MONOTONIC);
    struct times own = times_of(getpid()), server = times_of(options.server_pid);
    run_for(options.seconds);
    struct times own_end = times_of(getpid()), server_end = times_of(options.server_pid);
    double window = (double)(clock_ns(CLOCK_MONOTONIC) - began);
    count = *counter - count, bytes = received_bytes - bytes;
    if (!count) fail("no answer in %.1f seconds", window / 1e9);
    double own_share = (double)(own_end.running - own.running) / window;
    double server_ns = (double)(server_end.running - server.running);
    printf("{\"mode\": \"%s\", \"connections\": %d, \"in_flight\": %d, \"payload\": %zu, \"seconds\": %.3f, "
           "\"count\": %lu, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"load_cpu_share\": %.3f, "
           "\"load_wait_share\": %.3f, \"wire_bytes\": %.1f",
           names[options.mode], options.connections, options.in_flight, options.payload, window / 1e9, count,
           (double)count * 1e9 / window, percentile_us(0.5), percentile_us(0.99), own_share,
           (double)(own_end.waiting - own.waiting) / window, (double)bytes / (double)count);
    if (options.stuck) printf(", \"stuck\": %d, \"stuck_closed\": %d", options.stuck, lost());
    if (options.deflate) printf(", \"server_context\": %s", server_context ? "true" : "false");
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
        {"server-pid", required_argument, NULL, 'P'}, {"plain-request", no_argument, NULL, 'R'},
        {"stuck", required_argument, NULL, 'S'}, {"deflate", no_argument, NULL, 'D'},
        {"server-no-context", no_argument, NULL, 'N'}, {0}};
    static const char *const modes[] = {"echo", "fanout", "handshake", "idle"};
    static const char *const kinds[] = {"binary", "ascii", "mixed", "ticker"};
    const char *named = NULL;
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
        case 'S': options.stuck = atoi(optarg); break;
        case 'D': options.deflate = true; break;
        case 'N': options.server_no_context = true; break;
        case 'k': named = optarg; break;
        default: exit(2);
        }
    }
    if (optind + 2 != argc) fail("usage: load MODE [options] PORT|unix:PATH; load.c begins with the manual");
    while (mode < 4 && strcmp(argv[optind], modes[mode])) mode++;
    if (mode == 4) fail("no mode %s", argv[optind]);
    if (!named) named = options.deflate ? "ticker" : "binary";
    while (kind < 4 && strcmp(named, kinds[kind])) kind++;
    if (kind == 4) fail("no such --kind");
    if (kind == TICKER && options.payload < MIN_TICKER) fail("ticker messages are of %d bytes or more", MIN_TICKER);
    if (options.deflate && mode != ECHO && mode != FANOUT) fail("--deflate is for echo and fanout");
    if (options.server_no_context && !options.deflate) fail("--server-no-context is for --deflate");
    if (options.stuck && (mode != FANOUT || options.stuck < 0 || options.stuck >= options.connections))
        fail("--stuck is for fanout, and leaves one connection that reads");
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

    int at_once = options.mode != HANDSHAKE && options.connections > OPENING_AT_ONCE ? OPENING_AT_ONCE : options.connections;
    while (opened < at_once) start_connecting(&connections[opened++]);
    if (options.mode != HANDSHAKE)
        for (uint64_t began = clock_ns(CLOCK_MONOTONIC); holding < options.connections; turn(100))
            if (clock_ns(CLOCK_MONOTONIC) - began > 120 * 1000000000ull)
                fail("%d of %d connections after 120 seconds", holding, options.connections);
    if (options.stuck) fill_stuck();
    if (options.mode == ECHO || options.mode == FANOUT) prepare_messages();
    if (options.mode == ECHO)
        for (int i = 0; i < options.connections; i++) start_batch(&connections[i]);
    if (options.mode == FANOUT) start_fanout();
    if (options.mode == IDLE) hold();
    else measure();
    return 0;
}
