/* The opening handshake, RFC 6455 4: requests with keys made beforehand, and what the response to them must be. */
#pragma once

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "../accept_key.h"
#include "common.h"

enum {
    KEYS = 256,
    MAX_RESPONSE = 4096,
};

static struct { char request[1024]; size_t length; char accept[ACCEPT_LENGTH + 1]; } keys[KEYS];
static bool server_context = true;      /* --deflate: the server may refer to earlier messages, RFC 7692 7.1.1.1 */

static void prepare_keys(void) {
    static const char browser[] =
        "Pragma: no-cache\r\nCache-Control: no-cache\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
        "Safari/537.36\r\n"
        "Origin: http://127.0.0.1\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
        "Cookie: session=0123456789abcdef0123456789abcdef\r\n";
    const char *extensions = options.deflate ? "permessage-deflate; client_no_context_takeover"
                           : options.plain_request ? NULL : "permessage-deflate; client_max_window_bits";
    char accept[ACCEPT_LENGTH];
    accept_for_key(accept, "dGhlIHNhbXBsZSBub25jZQ==");     /* RFC 6455 1.3 */
    if (memcmp(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", ACCEPT_LENGTH)) fail("accept_for_key is broken");
    for (int i = 0; i < KEYS; i++) {
        uint64_t bits[2] = {random_bits(), random_bits()};
        char key[KEY_LENGTH + 1] = {0};
        base64(key, (uint8_t *)bits, 16);
        accept_for_key(keys[i].accept, key);
        keys[i].length = (size_t)snprintf(keys[i].request, sizeof keys[i].request,
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s%s%s%s%s"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
            options.port, options.plain_request ? "" : browser, extensions ? "Sec-WebSocket-Extensions: " : "",
            extensions ? extensions : "", options.server_no_context ? "; server_no_context_takeover" : "",
            extensions ? "\r\n" : "", key);
    }
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

/* RFC 7692 5.1: of what was offered, and with no parameter that was not. */
static void check_extensions(const struct connection *c, const char *value) {
    static const char *const allowed[] = {"permessage-deflate", "server_no_context_takeover", "client_no_context_takeover",
                                          "server_max_window_bits"};
    bool no_context = false;
    if (!value) fail("connection %d: no compression, which was to be on", index_of(c));
    for (int i = 0; *value != '\r'; i++) {
        size_t length = strcspn(value, ";= \r"), known = 0;
        while (known < 4 && (strlen(allowed[known]) != length || strncasecmp(value, allowed[known], length))) known++;
        if (known == 4 || (i == 0) != (known == 0)) fail("connection %d: extension not offered: %.60s", index_of(c), value);
        no_context |= known == 1;
        value += strcspn(value, ";\r");
        value += strspn(value, "; ");
    }
    if (options.server_no_context && !no_context) fail("connection %d: the server takes context over", index_of(c));
    server_context = !no_context;
}

/* Returns true when the whole response has come, and is right. */
static bool read_response(struct connection *c) {
    if (!c->response) c->response = allocate(MAX_RESPONSE + 1);
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
    const char *extensions = field(c->response, "Sec-WebSocket-Extensions");
    if (strncmp(c->response, "HTTP/1.1 101 ", 13)) fail("connection %d: not upgraded: %.60s", index_of(c), c->response);
    if (!accept || strncmp(accept, keys[c->key].accept, ACCEPT_LENGTH) || accept[ACCEPT_LENGTH] != '\r')
        fail("connection %d: wrong Sec-WebSocket-Accept: %.60s", index_of(c), accept ? accept : "(none)");
    if (!is_value(field(c->response, "Upgrade"), "websocket") || !is_value(field(c->response, "Connection"), "upgrade"))
        fail("connection %d: wrong Upgrade or Connection field", index_of(c));
    if (options.deflate) check_extensions(c, extensions);
    else if (extensions) fail("connection %d: compression, which was to be off", index_of(c));
    if (end + 4 != c->response + c->response_length) fail("connection %d: data before any was due", index_of(c));
    if (options.mode != HANDSHAKE) {
        free(c->response);
        c->response = NULL;
    }
    return true;
}
