/* Sockets, with TLS or without: opening them, bytes in, bytes out. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "state.h"
#include "tls.h"

enum {
    FIRST_SOURCE = 0x7F000002,          /* 127.0.0.2 */
    STUCK_SEGMENT = 536,                /* bytes: a server's kernel sizes its send buffer by the segments that the peer takes */
    STUCK_BUFFER = 4096,
    TLS_RECORD = 16 * 1024,
};

bool carrier_prepare(struct load *load, const struct plan *plan) {
    memset(&load->to, 0, sizeof load->to);
    if (!plan->address) {
        if (strlen(plan->unix_path) >= sizeof load->to.path.sun_path) {
            give_up(load, "unix is a path of %zu bytes, limit is %zu", strlen(plan->unix_path), sizeof load->to.path.sun_path - 1);
            return false;
        }
        load->to.path.sun_family = AF_UNIX;
        memcpy(load->to.path.sun_path, plan->unix_path, strlen(plan->unix_path) + 1);
        load->to_size = sizeof load->to.path;
    } else if (inet_pton(AF_INET, plan->address, &load->to.ip4.sin_addr) == 1) {
        load->to.ip4.sin_family = AF_INET, load->to.ip4.sin_port = htons((uint16_t)plan->port);
        load->to_size = sizeof load->to.ip4;
    } else if (inet_pton(AF_INET6, plan->address, &load->to.ip6.sin6_addr) == 1) {
        load->to.ip6.sin6_family = AF_INET6, load->to.ip6.sin6_port = htons((uint16_t)plan->port);
        load->to_size = sizeof load->to.ip6;
    } else {
        give_up(load, "address is %.100s, expected a numeric IPv4 or IPv6 address", plan->address);
        return false;
    }
    bool loopback = load->to.any.sa_family == AF_INET && ntohl(load->to.ip4.sin_addr.s_addr) >> 24 == 127;
    if (plan->sources > 1 && !loopback) {
        give_up(load, "sources is %u, allowed is 1 where the target is not in 127.0.0.0/8", plan->sources);
        return false;
    }
    if (!plan->tls) return true;
    load->tls = tls_new(load, plan->server_name, plan->cafile, plan->insecure);
    return load->tls != NULL;
}

void watch(struct load *load, struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(load->poller, operation, c->fd, &event) < 0) give_up(load, "epoll_ctl: %s", strerror(errno));
}

void want_writing(struct load *load, struct connection *c, bool writing) {
    if (writing == c->writing) return;
    c->writing = writing;
    watch(load, c, EPOLL_CTL_MOD, EPOLLIN | (writing ? EPOLLOUT : 0));
}

static void lose_by_errno(struct load *load, struct connection *c, int error) {
    switch (error) {
    case ECONNREFUSED: case ENOENT: lose(load, c, "refused", "%s", strerror(error)); break;
    case ECONNRESET: case EPIPE: lose(load, c, "reset", "%s", strerror(error)); break;
    case ETIMEDOUT: lose(load, c, "timeout", "%s", strerror(error)); break;
    case EADDRNOTAVAIL: lose(load, c, "no free port", "%s", strerror(error)); break;
    default: lose(load, c, strerror(error), "errno %d", error);
    }
}

static void prepare_socket(struct load *load, struct connection *c) {
    int on = 1;
    if (load->to.any.sa_family == AF_UNIX) return;
    if (is_stuck(load, c)) {
        int segment = STUCK_SEGMENT, size = STUCK_BUFFER;
        setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (load->plan.sources < 2) return;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(FIRST_SOURCE + load->next_source++ % load->plan.sources)};
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0) give_up(load, "bind: %s", strerror(errno));
}

/* The caller has counted it as opening. */
void start_connecting(struct load *load, struct connection *c) {
    c->fd = socket(load->to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        give_up(load, "socket: %s", strerror(errno));
        return;
    }
    c->state = CONNECTING;
    c->writing = false;
    c->key = (uint8_t)(load->next_key++ % KEYS);
    c->sent = 0;
    prepare_socket(load, c);
    if (load->failed) return;
    if (connect(c->fd, &load->to.any, load->to_size) < 0 && errno != EINPROGRESS) {
        if (errno != EAGAIN) {
            lose_by_errno(load, c, errno);
            return;
        }
        /* A Unix socket's queue is full. */
        close(c->fd);
        c->fd = -1;
        wait_for_tick(load, c);
        return;
    }
    watch(load, c, EPOLL_CTL_ADD, EPOLLIN);
    if (!load->plan.tls) c->state = REQUESTING;
    else if (tls_attach(load, c)) c->state = SHAKING;
}

static ssize_t after_tls(struct load *load, struct connection *c, ssize_t result, const char *why) {
    if (result == TLS_FAILED) {
        if (why[0]) lose(load, c, why, "connection %u", index_of(load, c));
        else lose_by_errno(load, c, errno);
    } else if (result == TLS_WANTS_WRITE) {
        want_writing(load, c, true);
        return 0;
    }
    return result;
}

/* Returns 1 when the handshake is done, else as carrier_receive. */
ssize_t carrier_shake(struct load *load, struct connection *c) {
    char why[ERROR_TEXT];
    want_writing(load, c, false);
    return after_tls(load, c, tls_shake(load->tls, c, why), why);
}

ssize_t carrier_send(struct load *load, struct connection *c, const void *data, size_t size) {
    if (c->ssl) {
        char why[ERROR_TEXT];
        size_t part = c->again ? c->again : size < TLS_RECORD ? size : TLS_RECORD;
        ssize_t result = tls_write(load->tls, c, data, part, why);
        c->again = result == TLS_AGAIN || result == TLS_WANTS_WRITE ? (uint32_t)part : 0;
        if (result == TLS_ENDED) {
            lose(load, c, "reset", "TLS ended while writing");
            return -1;
        }
        return after_tls(load, c, result, why);
    }
    ssize_t result = send(c->fd, data, size, MSG_NOSIGNAL);
    if (result >= 0) return result;
    if (errno == EAGAIN || errno == EINTR || (errno == ENOTCONN && c->state == REQUESTING)) return 0;
    lose_by_errno(load, c, errno);
    return -1;
}

void carrier_say(struct load *load, struct connection *c, const void *data, size_t size) {
    char why[ERROR_TEXT];
    if (c->ssl) tls_write(load->tls, c, data, size, why);
    else if (send(c->fd, data, size, MSG_NOSIGNAL) < 0) return;
}

ssize_t carrier_receive(struct load *load, struct connection *c, void *to, size_t room) {
    if (c->ssl) {
        char why[ERROR_TEXT];
        return after_tls(load, c, tls_read(load->tls, c, to, room, why), why);
    }
    ssize_t result = recv(c->fd, to, room, 0);
    if (result > 0) return result;
    if (result == 0) return ENDED;
    if (errno == EAGAIN || errno == EINTR) return 0;
    lose_by_errno(load, c, errno);
    return -1;
}

void carrier_finish(struct load *load, struct connection *c) {
    if (c->ssl) tls_end(load->tls, c);
    shutdown(c->fd, SHUT_WR);
}

/* Closes the descriptor; with a reset, which leaves no TIME_WAIT behind, or with a FIN. */
void carrier_close(struct load *load, struct connection *c, bool reset) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (c->fd < 0) return;
    if (reset) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    else if (c->ssl) tls_end(load->tls, c);
    if (load->tls) tls_detach(load->tls, c);
    close(c->fd);
    c->fd = -1;
}

void carrier_free(struct load *load) { tls_free(load->tls); }

/* Whether the server has closed a connection that nobody reads. */
bool carrier_is_lost(const struct connection *c) {
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state != TCP_ESTABLISHED;
}
