from libc.stdint cimport uint8_t, uint32_t

from fastws._outbox cimport iovec

cdef enum:
    # Of a record, RFC 8446 5.1 and 5.2: plaintext, and ciphertext with the most that may be around it.
    RECORD_PLAIN = 16 * 1024
    RECORD_MAX = 16 * 1024 + 2048
    RECORD_HEADER = 5
    # At most so many records of ciphertext wait.
    RECORDS_AT_ONCE = 4


cdef class Tls:
    # Made with the first step of the handshake: who connects and says nothing costs no session.
    cdef readonly object context
    cdef readonly object ssl_object       # ssl.SSLObject
    cdef object engine                    # what it wraps, which saves a Python call each time
    cdef object incoming, outgoing        # its ssl.MemoryBIO
    cdef object server_hostname           # of the peer, on the client's side
    cdef bint server_side

    # A proxy_protocol.ProxyHeader that comes first, before any record; None: none does, or it has come. Where
    # TLS does not follow, this is all that the object is for, and there is no context.
    cdef object header_first

    # --- where it stands
    cdef bint ready                       # the handshake is complete
    cdef bint ended                       # the peer's close_notify came
    cdef bint closed                      # ours was made
    cdef object failure                   # the exception that ended it, once it has failed

    # --- input: where in a record it is
    cdef uint8_t header_size
    cdef uint8_t[RECORD_HEADER] header
    cdef uint32_t missing                 # bytes of a record whose header has come

    # --- output: ciphertext that is to leave, a list of bytes; None: none
    cdef list waiting
    cdef size_t waiting_size
    cdef size_t sent                      # bytes of the first that have left

    # Begin; ValueError and ssl.SSLError for what the context does not allow.
    cdef int begin(self) except -1
    # Give the handshake what came, and take what it answers. Sets ready or failure.
    cdef int step(self, const uint8_t *data, Py_ssize_t size) except -1
    # What came behind the handshake.
    cdef bytes behind_handshake(self)
    # Decrypt to `out`; what was not yet a record is kept. Returns: bytes of plaintext, at most RECORD_MAX
    # more than `size`; `out` may overlap `data` if it begins that much before. Sets ended or failure.
    cdef Py_ssize_t decrypt(self, const uint8_t *data, Py_ssize_t size, uint8_t *out) except -1
    # Encrypt all of it. Sets failure.
    cdef int encrypt(self, const uint8_t *data, Py_ssize_t size) except -1
    # End our side, RFC 8446 6.1.
    cdef int close(self) except -1
    # Point `vectors` at what is to leave next; returns how many are in use. `size` bytes have left.
    cdef int vectors(self, iovec *vectors, int limit) except -1
    cdef int left(self, size_t size) except -1
    # Take at most so much of it.
    cdef bytes next_piece(self, size_t limit)

    cdef int feed(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef Py_ssize_t read(self, int records, uint8_t *out) except -1
    cdef int drain(self) except -1
