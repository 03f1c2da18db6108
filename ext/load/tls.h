/* TLS by OpenSSL's libssl, opened when it is asked for: nothing is linked with it. Ends with a negative number where the
 * carrier's own calls do. */
#pragma once

#include "state.h"

enum { TLS_AGAIN = 0, TLS_WANTS_WRITE = -3, TLS_ENDED = ENDED, TLS_FAILED = -1 };

/* Returns NULL after give_up(). */
struct tls *tls_new(struct load *load, const char *server_name, const char *cafile, bool insecure);
void tls_free(struct tls *tls);

/* Begins TLS on a socket that may still be connecting. Returns false after give_up(). */
bool tls_attach(struct load *load, struct connection *c);
void tls_detach(const struct tls *tls, struct connection *c);

/* 1 when the handshake is done, TLS_AGAIN, TLS_WANTS_WRITE; TLS_FAILED, with the reason in `why` (errno when that is empty). */
int tls_shake(const struct tls *tls, struct connection *c, char why[ERROR_TEXT]);

/* Bytes, or one of the above. What a write that returned TLS_AGAIN was given must be given again. */
ssize_t tls_write(const struct tls *tls, struct connection *c, const void *data, size_t size, char why[ERROR_TEXT]);
ssize_t tls_read(const struct tls *tls, struct connection *c, void *to, size_t room, char why[ERROR_TEXT]);

/* Sends close_notify, if it may. */
void tls_end(const struct tls *tls, struct connection *c);
