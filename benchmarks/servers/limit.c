/* The yardstick: a WebSocket server that does what the protocol cannot do without, and nothing else.
 *
 *     limit PORT [--unix PATH] [--broadcast]        PORT 0: any free port
 *
 * One thread, level-triggered epoll, one receive for each readiness event, one send for each receive. It unmasks, moves
 * each answer next to the one before in the buffer that it was received in, and sends the lot. What a server costs above
 * this is its own; what this costs is the kernel's. So it checks only what it needs to stay in step with the peer: it
 * does not validate UTF-8, and a violation of the protocol drops the connection.
 *
 * echo (the default): each frame goes back to its sender, whole (never cut through while it is still arriving).
 * --broadcast: each data frame goes to every connection, its sender included; the frames of one receive leave in one
 * send for each connection. While MAX_WAITING bytes wait for a connection whose peer does not read, it does not get them.
 *
 * A connection whose peer does not read is not read from until its output has left. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "accept_key.h"

enum {
    SCRATCH = 128 * 1024,           /* the receive buffer that all connections share */
    STRAIGHT_FROM = 16 * 1024,      /* an unfinished frame of at least this size is received where it will stay */
    RECEIVE_AT_ONCE = 64 * 1024,    /* then unmasked, while it is in the cache */
    MAX_PAYLOAD = 16 * 1024 * 1024,
    MAX_BACKLOG = 64 * 1024 * 1024,
    MAX_WAITING = 64 * 1024,        /* broadcast: over it whole messages are dropped; the other servers have the same limit */
    MAX_REQUEST = 16 * 1024,
    MAX_CONTROL = 125,
    MAX_HEADER = 14,
    EVENTS = 1024,
};

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

enum state { FREE, OPENING, OPEN, CLOSING };

/* Indexed by descriptor. All zero but for `state` while a connection is idle. */
struct connection {
    uint8_t *in;            /* an unfinished request or frame, in_length bytes of it, owned */
    uint32_t in_length;
    uint32_t in_size;       /* whole size of a frame that is received straight into `in`; 0: `in` moves to the scratch */
    uint8_t *out;           /* what the socket did not take, [out_from, out_to), owned; NULL when nothing waits */
    uint32_t out_from, out_to;
    enum state state;
};

static struct connection *connections;
static int max_connections, highest, poller;
static bool broadcast;
static uint8_t scratch[SCRATCH] __attribute__((aligned(64)));

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *allocate(void *old, size_t size) {
    void *memory = realloc(old, size);
    if (!memory) die("realloc");
    return memory;
}

/* ---- frames, RFC 6455 5.2 */

typedef uint8_t vector __attribute__((vector_size(32), aligned(1), may_alias));

/* XOR with the key while moving down in memory, or in place: to <= from. `phase`: payload offset of from[0]. */
__attribute__((target_clones("avx2", "default")))
static void unmask_long(uint8_t *to, const uint8_t *from, size_t length, uint64_t key) {
    vector keys;
    for (int i = 0; i < 4; i++) memcpy((uint8_t *)&keys + 8 * i, &key, 8);
    size_t i = 0;
    for (; i + 128 <= length; i += 128) {   /* all loads before any store: the ranges may overlap */
        vector a, b, c, d;
        memcpy(&a, from + i, 32), memcpy(&b, from + i + 32, 32);
        memcpy(&c, from + i + 64, 32), memcpy(&d, from + i + 96, 32);
        a ^= keys, b ^= keys, c ^= keys, d ^= keys;
        memcpy(to + i, &a, 32), memcpy(to + i + 32, &b, 32);
        memcpy(to + i + 64, &c, 32), memcpy(to + i + 96, &d, 32);
    }
    for (; i < length; i++) to[i] = from[i] ^ (uint8_t)(key >> 8 * (i % 8));
}

static inline void unmask(uint8_t *to, const uint8_t *from, size_t length, uint32_t key, size_t phase) {
    unsigned turn = 8 * (phase % 4);
    uint64_t keys = turn ? key >> turn | key << (32 - turn) : key;
    keys |= keys << 32;
    size_t i = 0;
    if (length >= 256) {
        i = length / 128 * 128;
        unmask_long(to, from, i, keys);
    }
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        word ^= keys;
        memcpy(to + i, &word, 8);
    }
    for (; i < length; i++) to[i] = from[i] ^ (uint8_t)(keys >> 8 * (i % 8));
}

struct frame {
    uint8_t first;          /* FIN and opcode */
    uint32_t header;        /* size of the header, masking key included */
    uint32_t length;        /* of the payload */
    uint32_t key;
};

/* Returns 1: read; 0: the header is not all there; -1: not a frame to answer. */
static inline int parse_header(struct frame *frame, const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    uint64_t length = data[1] & 0x7F;
    uint32_t header = 6;
    if (!(data[1] & 0x80) || data[0] & 0x70) return -1;
    if (length == 126) {
        header = 8;
        if (size < header) return 0;
        length = (uint64_t)data[2] << 8 | data[3];
    } else if (length == 127) {
        header = 14;
        if (size < header) return 0;
        memcpy(&length, data + 2, 8);
        length = __builtin_bswap64(length);
    } else if (size < header) {
        return 0;
    }
    if (length > MAX_PAYLOAD || (data[0] & 8 && (length > MAX_CONTROL || !(data[0] & 0x80)))) return -1;
    frame->first = data[0];
    frame->header = header;
    frame->length = (uint32_t)length;
    memcpy(&frame->key, data + header - 4, 4);
    return 1;
}

/* The answer's header, four bytes shorter than the question's. Returns its end. */
static inline uint8_t *put_header(uint8_t *to, uint8_t first, uint32_t length) {
    to[0] = first;
    if (length < 126) {
        to[1] = (uint8_t)length;
        return to + 2;
    }
    if (length < 65536) {
        to[1] = 126, to[2] = (uint8_t)(length >> 8), to[3] = (uint8_t)length;
        return to + 4;
    }
    uint64_t big = __builtin_bswap64(length);
    to[1] = 127;
    memcpy(to + 2, &big, 8);
    return to + 10;
}

/* ---- connections */

static void watch(int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event) < 0) die("epoll_ctl");
}

static void drop(int fd) {
    struct connection *c = &connections[fd];
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof *c);
    close(fd);
}

/* Not closed while others' events are being handled: its descriptor could come back as another connection. */
static void abandon(int fd) {
    shutdown(fd, SHUT_RDWR);
}

/* Send, and keep what the socket did not take. With `owned`, the allocation that holds `data`, nothing is copied:
 * returns true when it was kept. */
static bool transmit(int fd, uint8_t *data, size_t size, uint8_t *owned) {
    struct connection *c = &connections[fd];
    if (!c->out) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent == (ssize_t)size) return false;
        if (sent < 0) {
            if (errno != EAGAIN) {
                abandon(fd);
                return false;
            }
            sent = 0;
        }
        data += sent, size -= sent;
        watch(fd, EPOLLOUT);
        if (owned) {
            c->out = owned;
            c->out_from = data - owned;
            c->out_to = c->out_from + size;
            return true;
        }
    } else if (c->out_to + size > MAX_BACKLOG) {
        abandon(fd);
        return false;
    }
    c->out = allocate(c->out, c->out_to + size);
    memcpy(c->out + c->out_to, data, size);
    c->out_to += size;
    return false;
}

static void on_writable(int fd) {
    struct connection *c = &connections[fd];
    ssize_t sent = send(fd, c->out + c->out_from, c->out_to - c->out_from, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) drop(fd);
        return;
    }
    c->out_from += sent;
    if (c->out_from < c->out_to) return;
    free(c->out);
    c->out = NULL;
    c->out_from = c->out_to = 0;
    if (c->state == CLOSING) drop(fd);
    else watch(fd, EPOLLIN);
}

/* Drops what would go over the limit, whole frames; what the socket took a part of always waits. */
static void send_unless_full(int fd, uint8_t *data, size_t size) {
    struct connection *c = &connections[fd];
    if (c->out) {
        if (c->out_to - c->out_from + size > MAX_WAITING) return;
        if (c->out_to > 2 * MAX_WAITING) {      /* read from so slowly that it never empties */
            memmove(c->out, c->out + c->out_from, c->out_to - c->out_from);
            c->out_to -= c->out_from, c->out_from = 0;
        }
    }
    transmit(fd, data, size, NULL);
}

static void send_to_all(uint8_t *data, size_t size) {
    for (int fd = 0; fd <= highest; fd++)
        if (connections[fd].state == OPEN) send_unless_full(fd, data, size);
}

/* ---- what arrives */

static void on_request(int fd, uint8_t *data, size_t size);

/* Keep data[0..size), the start of a request or of a frame. `frame`: its header, when that has arrived. */
static void keep(struct connection *c, const uint8_t *data, size_t size, const struct frame *frame) {
    size_t whole = frame ? (size_t)frame->header + frame->length : 0;
    bool straight = whole >= STRAIGHT_FROM;
    c->in = allocate(NULL, straight ? whole : size);
    memcpy(c->in, data, size);
    c->in_length = (uint32_t)size;
    c->in_size = straight ? (uint32_t)whole : 0;
    if (straight) unmask(c->in + frame->header, c->in + frame->header, size - frame->header, frame->key, 0);
}

/* Answers every whole frame of data[0..size) with one send. data is overwritten. */
static void on_frames(int fd, uint8_t *data, size_t size) {
    struct connection *c = &connections[fd];
    uint8_t *in = data, *end = data + size, *out = data;
    struct frame frame;
    int known;
    while ((known = parse_header(&frame, in, end - in)) > 0 && (size_t)(end - in) >= frame.header + frame.length) {
        uint8_t opcode = frame.first & 0x0F, *payload = in + frame.header;
        in = payload + frame.length;
        if (opcode == PONG) continue;
        if (broadcast && opcode >= CLOSE) {     /* for its sender alone, so not into `out` */
            uint8_t answer[2 + MAX_CONTROL], *to = put_header(answer, 0x80 | (opcode == PING ? PONG : CLOSE), frame.length);
            unmask(to, payload, frame.length, frame.key, 0);
            transmit(fd, answer, 2 + frame.length, NULL);
        } else {
            out = put_header(out, opcode == PING ? 0x80 | PONG : frame.first, frame.length);
            unmask(out, payload, frame.length, frame.key, 0);
            out += frame.length;
        }
        if (opcode == CLOSE) {
            c->state = CLOSING;
            in = end;
            break;
        }
    }
    if (known >= 0 && in < end) keep(c, in, end - in, known ? &frame : NULL);   /* before `out` is handed on */
    if (out > data) {
        if (broadcast) send_to_all(data, out - data);
        else transmit(fd, data, out - data, NULL);
    }
    if (known < 0 || (c->state == CLOSING && !c->out)) drop(fd);
}

/* A large frame arrives where it will be answered from. */
static void receive_straight(int fd) {
    struct connection *c = &connections[fd];
    size_t room = c->in_size - c->in_length;
    ssize_t got = recv(fd, c->in + c->in_length, room < RECEIVE_AT_ONCE ? room : RECEIVE_AT_ONCE, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    struct frame frame = {0};
    parse_header(&frame, c->in, MAX_HEADER);    /* a second time: what it says is not worth keeping */
    uint8_t *part = c->in + c->in_length;
    unmask(part, part, got, frame.key, c->in_length - frame.header);
    c->in_length += (uint32_t)got;
    if (c->in_length < c->in_size) return;
    uint8_t *whole = c->in, *answer = whole + 4;
    size_t size = c->in_size - 4;
    c->in = NULL;
    c->in_length = c->in_size = 0;
    put_header(answer, frame.first, frame.length);
    if (broadcast) send_to_all(answer, size);
    else if (transmit(fd, answer, size, whole)) return;
    free(whole);
}

static void on_readable(int fd) {
    struct connection *c = &connections[fd];
    if (c->in_size) {
        receive_straight(fd);
        return;
    }
    size_t kept = c->in_length;     /* less than STRAIGHT_FROM or MAX_REQUEST: leaves room */
    ssize_t got = recv(fd, scratch + kept, SCRATCH - kept, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    if (kept) {
        memcpy(scratch, c->in, kept);
        free(c->in);
        c->in = NULL;
        c->in_length = 0;
    }
    if (c->state == OPEN) on_frames(fd, scratch, kept + got);
    else on_request(fd, scratch, kept + got);
}

/* ---- the opening handshake, RFC 6455 4.2 */

static const char *find_key(const char *request, const char *end) {
    static const char name[] = "Sec-WebSocket-Key:";
    for (const char *line = request; (line = memchr(line, '\n', end - line)) && ++line < end;) {
        if ((size_t)(end - line) < sizeof name || strncasecmp(line, name, sizeof name - 1)) continue;
        for (line += sizeof name - 1; line < end && *line == ' ';) line++;
        return end - line > KEY_LENGTH && line[KEY_LENGTH] == '\r' ? line : NULL;
    }
    return NULL;
}

static void on_request(int fd, uint8_t *data, size_t size) {
    struct connection *c = &connections[fd];
    uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) {
        if (size >= MAX_REQUEST) drop(fd);
        else keep(c, data, size, NULL);
        return;
    }
    const char *key = memcmp(data, "GET ", 4) ? NULL : find_key((char *)data, (char *)end + 2);
    if (!key) {
        drop(fd);
        return;
    }
    static const char head[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: ";
    uint8_t answer[sizeof head - 1 + ACCEPT_LENGTH + 4];
    memcpy(answer, head, sizeof head - 1);
    accept_for_key((char *)answer + sizeof head - 1, key);
    memcpy(answer + sizeof head - 1 + ACCEPT_LENGTH, "\r\n\r\n", 4);
    c->state = OPEN;
    transmit(fd, answer, sizeof answer, NULL);
    end += 4;
    if (end < data + size) on_frames(fd, end, data + size - end);
}

/* ---- the loop */

static void on_connections(int listener) {
    for (int i = 0; i < EVENTS; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == ECONNABORTED) return;
            die("accept4");
        }
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (fd >= max_connections || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) {
            close(fd);
            continue;
        }
        connections[fd].state = OPENING;
        if (fd > highest) highest = fd;
    }
}

static int listen_on(int port, const char *path) {
    int fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) die("socket");
    if (path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (strlen(path) >= sizeof address.sun_path) errno = ENAMETOOLONG, die(path);
        strcpy(address.sun_path, path);
        unlink(path);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) die(path);
        printf("listening unix:%s\n", path);
    } else {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
        socklen_t size = sizeof address;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);    /* accepted sockets inherit it */
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) die("bind");
        if (getsockname(fd, (struct sockaddr *)&address, &size) < 0) die("getsockname");
        printf("listening 127.0.0.1:%d\n", ntohs(address.sin_port));
    }
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    const char *path = NULL, *port = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--broadcast")) broadcast = true;
        else if (!strcmp(argv[i], "--unix") && i + 1 < argc) path = argv[++i];
        else if (argv[i][0] != '-' && !port) port = argv[i];
        else port = path = NULL, i = argc;
    }
    if (!port && !path) {
        fprintf(stderr, "usage: limit PORT [--unix PATH] [--broadcast]\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    max_connections = files.rlim_max > 1 << 20 ? 1 << 20 : (int)files.rlim_max;
    connections = calloc(max_connections, sizeof *connections);     /* pages come with use */
    if (!connections) die("calloc");
    /* Large messages come and go: their memory stays, or each would fault its pages in again. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);

    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(port ? atoi(port) : 0, path);
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.fd = listener};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0) die("epoll");
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) on_connections(fd);
            else if (connections[fd].out) on_writable(fd);
            else on_readable(fd);
        }
    }
}
