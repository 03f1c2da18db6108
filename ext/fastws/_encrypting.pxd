from libc.stdint cimport int64_t, uint8_t

from fastws._carrying cimport Carrying
from fastws._endpoint cimport Endpoint
from fastws._settings cimport Settings
from fastws._tls cimport RECORD_MAX, Tls

cdef enum:
    # One read takes at most this much, so that a fast peer does not hold up the others.
    SCRATCH_SIZE = 128 * 1024
    # Ciphertext is received so far behind where its plaintext goes: the most of an unfinished record
    # that may wait in front of it.
    HEADROOM = RECORD_MAX + 1024
    # A step of a handshake takes at most this much: what the BIO keeps room for.
    HANDSHAKE_SIZE = 4096


cdef class Encrypting(Carrying):
    cdef uint8_t *scratch         # HEADROOM + SCRATCH_SIZE bytes, for what is received
    cdef uint8_t *plain           # what is being encrypted; NULL before the first time
    cdef bint encrypting
    cdef object shaking           # connections whose next step waits for its turn, oldest first
    cdef int64_t shaking_until    # the end of this turn's share; 0: none was used yet

    # The `Tls` of a connection to a server; None: it has none. A proxy that is trusted says something first.
    cdef Tls tls_of(self, Settings settings, Endpoint connection)
    # Decrypt what was received, and let the connection parse and answer it. `data` is at scratch + HEADROOM.
    cdef int take_encrypted(self, Endpoint connection, Tls tls, const uint8_t *data, Py_ssize_t size) except -1
    cdef int end_encrypted(self, Endpoint connection) except -1
    cdef int fail_encrypted(self, Endpoint connection, Tls tls) except -1

    # Whether this turn has time for a step of a handshake. If not, `shaking` is where to wait for `shake_again`.
    cdef bint has_time_to_shake(self) except -1
    cdef int shake_more(self) except -1
    cdef int shake_again(self, Endpoint connection) except -1
    cdef int shake_with(self, Endpoint connection, Tls tls, const uint8_t *data, Py_ssize_t size) except -1

    # Receive again, if it was held back.
    cdef int receive_again(self, Endpoint connection) except -1
    # Whether something was received that comes before whatever is received now.
    cdef bint has_kept(self, Endpoint connection) except -1
    # All is said, and all has left: end our side.
    cdef int shut(self, Endpoint connection) except -1

    # Make records of what is queued, with none waiting. False: there are none; or it failed, and the connection was
    # dropped.
    cdef bint make_records(self, Endpoint connection, Tls tls) except -1
    # Send records that wait to the descriptor. Returns whether all have left; if not, the connection may have been
    # dropped.
    cdef bint send_records(self, Endpoint connection, Tls tls) except -1
    # While records wait there is an outbox, be it an empty one: whoever looks sees that not all has left.
    cdef int keep_outbox(self, Endpoint connection, Tls tls) except -1
    cdef int encrypt(self, Endpoint connection, Tls tls) except -1
