/* OpenSSL's functions, found at run time; one SSL for each connection, on its descriptor. */
#include "tls.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_st SSL;
typedef struct ssl_method_st SSL_METHOD;
typedef struct x509_verify_param_st X509_VERIFY_PARAM;

/* The values of OpenSSL's headers, the same in 1.1 and 3. */
enum {
    CTRL_MODE = 33, CTRL_READ_AHEAD = 41, CTRL_SERVER_NAME = 55,
    MODE_PARTIAL_WRITE = 1, MODE_MOVING_BUFFER = 2, MODE_RELEASE_BUFFERS = 16,
    VERIFY_NONE = 0, VERIFY_PEER = 1,
    ERROR_WANT_READ = 2, ERROR_WANT_WRITE = 3, ERROR_SYSCALL = 5, ERROR_ZERO_RETURN = 6,
};
#define NO_RENEGOTIATION (UINT64_C(1) << 30)

#define FUNCTIONS(f) \
    f(const SSL_METHOD *, TLS_client_method, (void)) \
    f(SSL_CTX *, SSL_CTX_new, (const SSL_METHOD *)) \
    f(void, SSL_CTX_free, (SSL_CTX *)) \
    f(long, SSL_CTX_ctrl, (SSL_CTX *, int, long, void *)) \
    f(uint64_t, SSL_CTX_set_options, (SSL_CTX *, uint64_t)) \
    f(int, SSL_CTX_set_default_verify_paths, (SSL_CTX *)) \
    f(int, SSL_CTX_load_verify_locations, (SSL_CTX *, const char *, const char *)) \
    f(void, SSL_CTX_set_verify, (SSL_CTX *, int, void *)) \
    f(int, SSL_CTX_set_alpn_protos, (SSL_CTX *, const unsigned char *, unsigned)) \
    f(SSL *, SSL_new, (SSL_CTX *)) \
    f(void, SSL_free, (SSL *)) \
    f(int, SSL_set_fd, (SSL *, int)) \
    f(long, SSL_ctrl, (SSL *, int, long, void *)) \
    f(int, SSL_set1_host, (SSL *, const char *)) \
    f(X509_VERIFY_PARAM *, SSL_get0_param, (SSL *)) \
    f(void, SSL_set_connect_state, (SSL *)) \
    f(int, SSL_do_handshake, (SSL *)) \
    f(int, SSL_read, (SSL *, void *, int)) \
    f(int, SSL_write, (SSL *, const void *, int)) \
    f(int, SSL_shutdown, (SSL *)) \
    f(int, SSL_get_error, (const SSL *, int)) \
    f(long, SSL_get_verify_result, (const SSL *)) \
    f(int, X509_VERIFY_PARAM_set1_ip_asc, (X509_VERIFY_PARAM *, const char *)) \
    f(const char *, X509_verify_cert_error_string, (long)) \
    f(unsigned long, ERR_get_error, (void)) \
    f(void, ERR_clear_error, (void)) \
    f(const char *, ERR_reason_error_string, (unsigned long))

struct tls {
    void *library;
    SSL_CTX *context;
    char *server_name;
    bool is_address, insecure;
#define MEMBER(result, name, arguments) result (*name) arguments;
    FUNCTIONS(MEMBER)
};

static bool open_library(struct load *load, struct tls *tls) {
    /* One that the process has opened already, whatever its folder, is found by its name. */
    static const char *const names[] = {"libssl.so.3", "libssl.so.1.1"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !tls->library; i++) tls->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!tls->library) {
        give_up(load, "TLS needs OpenSSL's library: neither libssl.so.3 nor libssl.so.1.1 can be opened");
        return false;
    }
    /* POSIX has functions and objects in pointers of one size. */
#define FIND(result, name, arguments) \
    if (!(*(void **)&tls->name = dlsym(tls->library, #name))) { \
        give_up(load, "TLS needs OpenSSL 1.1.0 or newer: libssl has no %s", #name); \
        return false; \
    }
    FUNCTIONS(FIND)
    return true;
}

struct tls *tls_new(struct load *load, const char *server_name, const char *cafile, bool insecure) {
    static const unsigned char protocols[] = "\x08http/1.1";
    unsigned char address[sizeof(struct in6_addr)];
    struct tls *tls = calloc(1, sizeof *tls);
    if (!tls || !(tls->server_name = strdup(server_name))) {
        free(tls);
        give_up(load, "no memory for TLS");
        return NULL;
    }
    tls->insecure = insecure;
    tls->is_address = inet_pton(AF_INET, server_name, address) == 1 || inet_pton(AF_INET6, server_name, address) == 1;
    if (!open_library(load, tls)) goto failed;
    tls->context = tls->SSL_CTX_new(tls->TLS_client_method());
    if (!tls->context) {
        give_up(load, "no memory for TLS");
        goto failed;
    }
    tls->SSL_CTX_ctrl(tls->context, CTRL_MODE, MODE_PARTIAL_WRITE | MODE_MOVING_BUFFER | MODE_RELEASE_BUFFERS, NULL);
    tls->SSL_CTX_ctrl(tls->context, CTRL_READ_AHEAD, 1, NULL);      /* or each record would be received in two parts */
    tls->SSL_CTX_set_options(tls->context, NO_RENEGOTIATION);       /* so that a write never waits for something to read */
    tls->SSL_CTX_set_verify(tls->context, insecure ? VERIFY_NONE : VERIFY_PEER, NULL);
    tls->SSL_CTX_set_alpn_protos(tls->context, protocols, sizeof protocols - 1);
    if (insecure) return tls;
    if (cafile && !tls->SSL_CTX_load_verify_locations(tls->context, cafile, NULL)) {
        give_up(load, "cafile is %.160s: no certificates can be read there", cafile);
        goto failed;
    }
    if (!cafile && !tls->SSL_CTX_set_default_verify_paths(tls->context)) {
        give_up(load, "the system's store of certificates cannot be read");
        goto failed;
    }
    tls->ERR_clear_error();
    return tls;
failed:
    tls_free(tls);
    return NULL;
}

void tls_free(struct tls *tls) {
    if (!tls) return;
    if (tls->context) tls->SSL_CTX_free(tls->context);
    if (tls->library) dlclose(tls->library);
    free(tls->server_name);
    free(tls);
}

bool tls_attach(struct load *load, struct connection *c) {
    const struct tls *tls = load->tls;
    SSL *ssl = c->ssl = tls->SSL_new(tls->context);
    bool named = ssl && tls->SSL_set_fd(ssl, c->fd);
    if (named && !tls->is_address) named = tls->SSL_ctrl(ssl, CTRL_SERVER_NAME, 0, tls->server_name);
    if (named && !tls->insecure)
        named = tls->is_address ? tls->X509_VERIFY_PARAM_set1_ip_asc(tls->SSL_get0_param(ssl), tls->server_name)
                                : tls->SSL_set1_host(ssl, tls->server_name);
    if (!named) {
        give_up(load, "no memory for TLS");
        return false;
    }
    tls->SSL_set_connect_state(ssl);
    return true;
}

void tls_detach(const struct tls *tls, struct connection *c) {
    if (c->ssl) tls->SSL_free(c->ssl);
    c->ssl = NULL;
}

/* What a call that returned `result` says by it. */
static ssize_t outcome(const struct tls *tls, struct connection *c, int result, char why[ERROR_TEXT]) {
    int seen = errno;
    why[0] = 0;
    switch (tls->SSL_get_error(c->ssl, result)) {
    case ERROR_WANT_READ: return TLS_AGAIN;
    case ERROR_WANT_WRITE: return TLS_WANTS_WRITE;
    case ERROR_ZERO_RETURN: return TLS_ENDED;
    case ERROR_SYSCALL:
        if (!seen) return TLS_ENDED;
        errno = seen;
        return TLS_FAILED;
    }
    unsigned long error = tls->ERR_get_error();
    const char *reason = tls->ERR_reason_error_string(error);
    long verified = tls->SSL_get_verify_result(c->ssl);
    tls->ERR_clear_error();
    if (reason && !strcmp(reason, "unexpected eof while reading")) return TLS_ENDED;
    if (verified && !tls->insecure) reason = tls->X509_verify_cert_error_string(verified);
    snprintf(why, ERROR_TEXT, "TLS: %.80s", reason ? reason : "no reason given");
    return TLS_FAILED;
}

int tls_shake(const struct tls *tls, struct connection *c, char why[ERROR_TEXT]) {
    errno = 0;
    int result = tls->SSL_do_handshake(c->ssl);
    return result == 1 ? 1 : (int)outcome(tls, c, result, why);
}

ssize_t tls_write(const struct tls *tls, struct connection *c, const void *data, size_t size, char why[ERROR_TEXT]) {
    errno = 0;
    int result = tls->SSL_write(c->ssl, data, size < INT_MAX ? (int)size : INT_MAX);
    return result > 0 ? result : outcome(tls, c, result, why);
}

ssize_t tls_read(const struct tls *tls, struct connection *c, void *to, size_t room, char why[ERROR_TEXT]) {
    errno = 0;
    int result = tls->SSL_read(c->ssl, to, (int)room);
    return result > 0 ? result : outcome(tls, c, result, why);
}

void tls_end(const struct tls *tls, struct connection *c) {
    tls->SSL_shutdown(c->ssl);
    tls->ERR_clear_error();
}
