/* The opening handshake, RFC 6455 4.1: requests with keys made beforehand, and what the response to them must be. */
#include <stdlib.h>
#include <strings.h>

#include "state.h"

enum { MAX_RESPONSE = 16 * 1024 };

bool prepare_keys(struct load *load, const struct plan *plan) {
    static const char last[] = "Sec-WebSocket-Key: ";
    for (unsigned i = 0; i < KEYS; i++) {
        uint64_t bits[2] = {random_bits(load), random_bits(load)};
        char key[KEY_LENGTH];
        base64(key, (uint8_t *)bits, 16);
        accept_for_key(load->keys[i].accept, key);
        char *to = load->keys[i].request = malloc(plan->request_length + sizeof last - 1 + KEY_LENGTH + 4);
        if (!to) return false;
        memcpy(to, plan->request, plan->request_length);
        to += plan->request_length;
        memcpy(to, last, sizeof last - 1);
        memcpy(to + sizeof last - 1, key, KEY_LENGTH);
        memcpy(to + sizeof last - 1 + KEY_LENGTH, "\r\n\r\n", 4);
        load->keys[i].length = plan->request_length + sizeof last - 1 + KEY_LENGTH + 4;
    }
    load->subprotocols = strdup(plan->subprotocols);
    return load->subprotocols != NULL;
}

/* The value of a field, which ends before \r; NULL when there is none. */
static const char *field(const char *response, const char *name) {
    size_t length = strlen(name);
    for (const char *line = response; (line = strstr(line, "\r\n")); ) {
        line += 2;
        if (!strncasecmp(line, name, length) && line[length] == ':') return line + length + 1 + strspn(line + length + 1, " \t");
    }
    return NULL;
}

static size_t value_length(const char *value) {
    size_t length = strcspn(value, "\r");
    while (length && (value[length - 1] == ' ' || value[length - 1] == '\t')) length--;
    return length;
}

/* Whether one of the values between commas is `wanted`. */
static bool has_token(const char *value, const char *wanted) {
    size_t length = strlen(wanted);
    while (value && *value != '\r') {
        value += strspn(value, " \t,");
        size_t here = strcspn(value, ",\r"), trimmed = here;
        while (trimmed && (value[trimmed - 1] == ' ' || value[trimmed - 1] == '\t')) trimmed--;
        if (trimmed == length && !strncasecmp(value, wanted, length)) return true;
        value += here;
    }
    return false;
}

static bool refuse(struct load *load, struct connection *c, const char *what, const char *value) {
    char name[ERROR_TEXT];
    snprintf(name, sizeof name, "bad handshake: %s", what);
    lose(load, c, name, "%.*s", value ? (int)strcspn(value, "\r") : 9, value ? value : "no value");
    return false;
}

/* RFC 7692 5.1: of what was offered, and with no parameter that was not. */
static bool check_extensions(struct load *load, struct connection *c, const char *value) {
    static const char *const allowed[] = {"permessage-deflate", "server_no_context_takeover", "client_no_context_takeover",
                                          "server_max_window_bits"};
    bool no_context = false;
    const char *at = value;
    if (!value) return refuse(load, c, "no compression", NULL);
    for (int i = 0; *at && *at != '\r'; i++) {
        size_t length = strcspn(at, ";,= \t\r"), known = 0;
        while (known < 4 && (strlen(allowed[known]) != length || strncasecmp(at, allowed[known], length))) known++;
        if (known == 4 || (i == 0) != (known == 0)) return refuse(load, c, "extension not offered", value);
        no_context |= known == 1;
        at += strcspn(at, ";,\r");
        if (*at == ',') return refuse(load, c, "two extensions", value);
        at += strspn(at, "; \t");
    }
    if (load->plan.server_no_context && !no_context) return refuse(load, c, "server takes context over", value);
    c->server_context = !no_context;
    return true;
}

static bool check_subprotocol(struct load *load, struct connection *c, const char *value) {
    char wanted[ERROR_TEXT];
    if (!value) return true;        /* the server may choose none */
    snprintf(wanted, sizeof wanted, ",%.*s,", (int)value_length(value), value);
    if (strchr(wanted + 1, ',') != wanted + strlen(wanted) - 1 || strlen(wanted) < 3 || !strstr(load->subprotocols, wanted))
        return refuse(load, c, "subprotocol not offered", value);
    return true;
}

/* `response` ends after the last field, with \r\n and a 0. */
static bool check_response(struct load *load, struct connection *c, const char *response) {
    const char *accept = field(response, "Sec-WebSocket-Accept"), *extensions = field(response, "Sec-WebSocket-Extensions");
    if (strncmp(response, "HTTP/1.", 7)) return refuse(load, c, "no HTTP", response);
    if (strncmp(response + 7, "1 101", 5) || (response[12] != ' ' && response[12] != '\r')) {
        char what[16];
        const char *status = strchr(response, ' ');
        snprintf(what, sizeof what, "HTTP %.3s", status ? status + 1 : "");
        return refuse(load, c, what, response);
    }
    if (!has_token(field(response, "Upgrade"), "websocket")) return refuse(load, c, "Upgrade", field(response, "Upgrade"));
    if (!has_token(field(response, "Connection"), "upgrade")) return refuse(load, c, "Connection", field(response, "Connection"));
    if (!accept || value_length(accept) != ACCEPT_LENGTH || memcmp(accept, load->keys[c->key].accept, ACCEPT_LENGTH))
        return refuse(load, c, "Sec-WebSocket-Accept", accept);
    if (!check_subprotocol(load, c, field(response, "Sec-WebSocket-Protocol"))) return false;
    if (load->plan.deflate) return check_extensions(load, c, extensions);
    if (extensions && !load->plan.offers_deflate) return refuse(load, c, "extension not offered", extensions);
    return true;
}

ssize_t read_response(struct load *load, struct connection *c, const uint8_t *data, size_t size) {
    size_t kept = c->response_length, part = size;
    if (part > MAX_RESPONSE - kept) part = MAX_RESPONSE - kept;
    if (!c->response) c->response = malloc(MAX_RESPONSE + 1);
    if (!c->response) {
        give_up(load, "no memory for a response");
        return -1;
    }
    memcpy(c->response + kept, data, part);
    size_t have = c->response_length = (uint32_t)(kept + part);
    c->response[have] = 0;
    char *end = memmem(c->response, have, "\r\n\r\n", 4);
    if (!end) {
        if (have < MAX_RESPONSE) return 0;
        refuse(load, c, "over 16384 bytes", c->response);
        return -1;
    }
    end[2] = 0;
    size_t head = (size_t)(end - c->response) + 4;
    if (strlen(c->response) != head - 2) {
        refuse(load, c, "a zero byte", NULL);
        return -1;
    }
    if (!check_response(load, c, c->response)) return -1;
    free(c->response);
    c->response = NULL;
    c->response_length = 0;
    return (ssize_t)(head - kept);
}
