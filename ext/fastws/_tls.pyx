"""TLS: records to and from the bytes of one connection, through the standard library's ssl module.

In: ciphertext as it was received, plaintext to send. Out: plaintext, and ciphertext that is to
leave. RFC 8446 and RFC 5246 are OpenSSL's; here are only the headers of records, RFC 8446 5.1.

OpenSSL reads and writes memory, an `ssl.MemoryBIO` each way, and a BIO keeps for good the room that
it once needed. So each is given little at a time: whole small records together, a large one alone.
Reading where no whole record is costs an exception, more than a small record itself; so the
records are counted, and read as often as there are any.
"""

import ssl

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t

from fastws._outbox cimport iovec

cdef extern from "Python.h":
    int PyBUF_READ, PyBUF_WRITE
    object PyMemoryView_FromMemory(char *data, Py_ssize_t size, int flags)

cdef object SSLError = ssl.SSLError
cdef object SSLWantReadError = ssl.SSLWantReadError
cdef object MemoryBIO = ssl.MemoryBIO

cdef enum:
    # Small records are given to OpenSSL together, up to so many bytes.
    PIECE = 4096
    # RFC 8446 5.1: change_cipher_spec, alert, handshake and application_data; and a heartbeat,
    # which OpenSSL refuses itself.
    FIRST_TYPE = 20
    LAST_TYPE = 24
    # So few bytes are copied into an object sooner than a memoryview of them is made.
    SMALL = 4096
    # Of ciphertext for a peer that does not read: only answers to its KeyUpdates can be so many.
    WAITING_MAX = 256 * 1024


# What was read into last, for it is nearly always the same place: a view of RECORD_PLAIN bytes there.
cdef uint8_t *viewed = NULL
cdef object view = None


cdef object as_buffer(const uint8_t *data, Py_ssize_t size):
    """Return an object with these bytes, which it may borrow."""
    if size <= SMALL:
        return PyBytes_FromStringAndSize(<const char *>data, size)
    return PyMemoryView_FromMemory(<char *>data, size, PyBUF_READ)


@cython.final
cdef class Tls:
    """One side of a TLS connection."""

    def __init__(self, context, bint server_side, server_hostname=None):
        self.context = context
        self.server_side = server_side
        self.server_hostname = server_hostname

    cdef int begin(self) except -1:
        self.incoming = MemoryBIO()
        self.outgoing = MemoryBIO()
        self.ssl_object = self.context.wrap_bio(
            self.incoming, self.outgoing, server_side=self.server_side, server_hostname=self.server_hostname)
        self.engine = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        return 0

    # ------------------------------------------------------------------ the handshake

    cdef int step(self, const uint8_t *data, Py_ssize_t size) except -1:
        try:
            if self.ssl_object is None:
                self.begin()
            if size:
                self.feed(data, size)
            self.engine.do_handshake()
            self.ready = True
        except SSLWantReadError:
            pass
        except (SSLError, OSError, ValueError) as error:
            self.failure = error
        if self.outgoing is not None:
            self.drain()
        return 0

    cdef bytes behind_handshake(self):
        return self.incoming.read()

    # ------------------------------------------------------------------ input

    cdef int feed(self, const uint8_t *data, Py_ssize_t size) except -1:
        self.incoming.write(as_buffer(data, size))  # which copies
        return 0

    @cython.nonecheck(False)
    cdef Py_ssize_t read(self, int records, uint8_t *out) except -1:
        """Read as many records, some of which may hold no plaintext."""
        global viewed, view
        cdef Py_ssize_t total = 0, size
        cdef int i
        try:
            for i in range(records):
                if out + total != viewed:
                    view = PyMemoryView_FromMemory(<char *>out + total, RECORD_PLAIN, PyBUF_WRITE)
                    viewed = out + total
                size = self.engine.read(RECORD_PLAIN, view)
                if size == 0:
                    self.ended = True
                    break
                total += size
        except SSLWantReadError:
            # A ticket or a KeyUpdate, say, was one of them, and may have been answered.
            self.drain()
        except (SSLError, OSError, ValueError) as error:
            self.failure = error
        if self.ended or self.failure is not None:
            self.drain()
        return total

    @cython.boundscheck(False)
    @cython.wraparound(False)
    cdef Py_ssize_t decrypt(self, const uint8_t *data, Py_ssize_t size, uint8_t *out) except -1:
        cdef Py_ssize_t start = 0, place = 0, total = 0, taken
        cdef int records = 0
        cdef uint32_t length
        while place < size and not self.ended and self.failure is None:
            if self.missing == 0:
                self.header[self.header_size] = data[place]
                self.header_size += 1
                place += 1
                if self.header_size < RECORD_HEADER:
                    continue
                self.header_size = 0
                length = <uint32_t>self.header[3] << 8 | self.header[4]
                if (length > RECORD_MAX or self.header[1] != 3
                        or not FIRST_TYPE <= self.header[0] <= LAST_TYPE):
                    # No record: OpenSSL has the words for it, and need not wait for the rest.
                    length = 0
                    place = size
                self.missing = length
                if records and place - start + length > PIECE:
                    # With no more of this one than its header.
                    self.feed(data + start, place - start)
                    start = place
                    total += self.read(records, out + total)
                    records = 0
            taken = min(<Py_ssize_t>self.missing, size - place)
            place += taken
            self.missing -= <uint32_t>taken
            if self.missing == 0:
                records += 1
                if place - start >= PIECE:
                    self.feed(data + start, place - start)
                    start = place
                    total += self.read(records, out + total)
                    records = 0
        if place > start and not self.ended and self.failure is None:
            self.feed(data + start, place - start)
            if records:
                total += self.read(records, out + total)
        return total

    # ------------------------------------------------------------------ output

    @cython.nonecheck(False)
    cdef int encrypt(self, const uint8_t *data, Py_ssize_t size) except -1:
        cdef Py_ssize_t done = 0, part
        try:
            while done < size:
                part = min(size - done, <Py_ssize_t>RECORD_PLAIN)
                done += <Py_ssize_t>self.engine.write(as_buffer(data + done, part))
                # After each record: the BIO keeps the room for what was in it at once.
                self.drain()
        except (SSLError, OSError, ValueError) as error:
            self.failure = error
        return 0

    @cython.nonecheck(False)
    cdef int drain(self) except -1:
        """Take what OpenSSL has to send: records, alerts, tickets, answers to a KeyUpdate."""
        cdef bytes data
        if self.outgoing.pending:
            data = self.outgoing.read()
            if self.waiting is None:
                self.waiting = [data]
            else:
                self.waiting.append(data)
            self.waiting_size += <size_t>PyBytes_GET_SIZE(data)
            if self.waiting_size > WAITING_MAX and self.failure is None:
                self.failure = SSLError(f"{self.waiting_size} bytes wait for a peer that does not read")
        return 0

    cdef int close(self) except -1:
        if self.closed or not self.ready or self.failure is not None:
            return 0
        self.closed = True
        try:
            self.ssl_object.unwrap()
        except (SSLError, OSError, ValueError):
            pass  # it waits for the peer's, which we need not
        return self.drain()

    cdef int vectors(self, iovec *vectors, int limit) except -1:
        cdef int count = 0
        cdef size_t skip = self.sent
        cdef bytes data
        for data in self.waiting:
            if count == limit:
                break
            vectors[count].iov_base = PyBytes_AS_STRING(data) + skip
            vectors[count].iov_len = <size_t>PyBytes_GET_SIZE(data) - skip
            count += 1
            skip = 0
        return count

    cdef bytes next_piece(self, size_t limit):
        cdef bytes piece = self.waiting[0][self.sent:self.sent + limit]
        self.left(<size_t>len(piece))
        return piece

    cdef int left(self, size_t size) except -1:
        self.waiting_size -= size
        if self.waiting_size == 0:
            self.waiting = None
            self.sent = 0
            return 0
        size += self.sent
        while size >= <size_t>len(self.waiting[0]):
            size -= <size_t>len(self.waiting[0])
            del self.waiting[0]
        self.sent = size
        return 0

    # ------------------------------------------------------------------ facts

    def info(self, name):
        """Return what `get_extra_info` tells of it, by asyncio's names; None for another."""
        if name == "sslcontext":
            return self.context
        if not self.ready:
            return None
        if name == "ssl_object":
            return self.ssl_object
        if name == "peercert":
            return self.ssl_object.getpeercert()
        if name == "cipher":
            return self.ssl_object.cipher()
        if name == "compression":
            return self.ssl_object.compression()
        return None
