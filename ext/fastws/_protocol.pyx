"""The WebSocket protocol without I/O: bytes in, events out; RFC 6455 5 to 8, both sides.

In: the bytes of a peer, in any pieces, after the opening handshake. Out: messages, pings,
pongs and the closing handshake, as calls of methods that a subclass overrides, and encoded
frames, as calls of `write`. Any split of a stream gives the same calls.

Theory of operation. `receive` runs a loop over frames. A frame that lies whole in the input,
which is nearly every one, goes straight from there to its object. Anything unfinished is kept:
a header in `header`, a control payload in `control`, a message in `message`. Three things end
the loop before the input does: `held` (the consumer takes no more; what was not consumed is fed
again later), `failed` and `close_arrived` (the rest is discarded).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastws._deflate cimport (
    WS_RSV1, deflate_message, deflating_free, deflating_new, forget_output, is_worth,
)
from fastws._frames cimport (
    WS_CLOSE, WS_CONT, WS_CONTROL_MAX, WS_FIN, WS_HEADER_MAX, WS_PONG, WS_TEXT,
    encode_close, header_error, ws_close_code_valid, ws_header_decode, ws_header_encode,
)
from fastws._inflate cimport (
    CORRUPT, ENDLESS, TOO_LARGE, inflate_end, inflate_some, inflate_whole, most_taken,
)
from fastws._kernels cimport active, ws_utf8
from fastws._masking cimport draw_masks, next_mask
from fastws._messages cimport (
    INVALID_TEXT, Payload, known, message_append, message_drop, message_finish,
    message_received, message_tail, message_take, parse_message,
)


cdef enum:
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    INVALID_DATA = 1007
    TOO_BIG = 1009

    # A message may have this many fragments, and one more for each so many bytes of payload:
    # many times what senders do (64-byte fragments pass), far from what would keep us busy.
    FRAGMENTS_FREE = 4096
    BYTES_PER_FRAGMENT = 32

    # From here on the rest of a payload is received where it will stay.
    DIRECT_MIN = 16 * 1024

    # A payload up to this size is masked on the stack; outboxes copy those.
    SMALL_MASKED = 2048

cdef uint64_t NO_LIMIT = <uint64_t>-1


cdef class Protocol:
    def __cinit__(self):
        self.max_size = NO_LIMIT
        self.message.buffer = NULL
        self.control = NULL
        self.deflating = NULL

    def __dealloc__(self):
        message_drop(&self.message)
        deflating_free(self.deflating)
        PyMem_Free(self.control)

    @cython.nonecheck(False)
    cdef Py_ssize_t receive(self, uint8_t *data, Py_ssize_t size) except -1:
        """
        Parse `data` and hand on everything that it completes.

        `data` is borrowed until return, and unmasked in place.

        Returns: bytes consumed. Fewer than `size` only when the consumer holds: feed the rest
            again, first, once it no longer does.
        Raises: MemoryError; what a peer does wrong fails the connection instead.
        Cost: O(size); copies nothing but payloads, once.
        """
        cdef uint8_t *p = data
        cdef uint8_t *end = data + size
        cdef int used
        cdef size_t take
        while True:
            if self.failed or self.close_arrived:
                return size
            if self.held:
                return p - data
            if not self.in_frame:
                if self.header_size == 0:
                    used = ws_header_decode(p, <size_t>(end - p), self.rsv_allowed, not self.client, &self.frame)
                    if used == 0:
                        # p .. end is shorter than a header
                        memcpy(self.header, p, <size_t>(end - p))
                        self.header_size = <uint8_t>(end - p)
                        return size
                    p += used
                else:
                    take = min(<size_t>(end - p), <size_t>(WS_HEADER_MAX - self.header_size))
                    memcpy(self.header + self.header_size, p, take)
                    used = ws_header_decode(self.header, self.header_size + take, self.rsv_allowed,
                                            not self.client, &self.frame)
                    if used == 0:
                        self.header_size += <uint8_t>take
                        return size
                    if used > 0:
                        p += used - self.header_size
                    self.header_size = 0
                if used < 0:
                    self.violated(PROTOCOL_ERROR, header_error(used))
                    continue
                self.begin_frame()
                if self.failed:
                    continue
            if self.remaining and p == end:
                return size
            p += self.take_payload(p, <size_t>(end - p))

    cdef int begin_frame(self) except -1:
        """Judge the header in `frame` against the message that it belongs to, RFC 6455 5.4."""
        cdef uint64_t length = self.frame.length
        cdef uint8_t opcode = self.frame.opcode
        cdef uint64_t have = self.message.handed + self.message.size
        self.in_frame = True
        self.remaining = length
        if opcode & 8:
            return 0
        if opcode == WS_CONT:
            if self.message.opcode == 0:
                return self.violated(PROTOCOL_ERROR, "a continuation frame continues no message")
            if self.frame.rsv:
                # RFC 7692 6.1: "the RSV1 bit of the first frame"
                return self.violated(PROTOCOL_ERROR, "RSV1 is set on a continuation frame")
        else:
            if self.message.opcode != 0:
                return self.violated(PROTOCOL_ERROR, "a new message begins inside a fragmented one")
            self.message.opcode = opcode
            self.message.packed = self.frame.rsv != 0
        if self.close_queued:
            return 0  # it will be passed over
        if self.message.packed:
            # How much it stands for is seen when it is inflated.
            if length > most_taken(self.max_size):
                return self.violated(TOO_BIG, f"a compressed frame is {length} bytes, "
                                              f"limit for its message is {self.max_size}")
        # have <= max_size always, so that this cannot wrap.
        elif length > self.max_size - have:
            return self.violated(TOO_BIG, f"message is {have + length} bytes, limit is {self.max_size}")
        self.message.fragments += 1
        if self.message.fragments > FRAGMENTS_FREE + have // BYTES_PER_FRAGMENT:
            return self.violated(TOO_BIG, f"message is in {self.message.fragments} fragments, limit for {have} "
                                          f"bytes is {FRAGMENTS_FREE + have // BYTES_PER_FRAGMENT}")
        return 0

    @cython.nonecheck(False)
    cdef Py_ssize_t take_payload(self, uint8_t *data, size_t available) except -1:
        """Take what there is of the current frame's payload. Returns: bytes taken."""
        cdef size_t size = available if available < self.remaining else <size_t>self.remaining
        cdef uint8_t opcode = self.frame.opcode
        cdef unsigned phase
        cdef uint64_t frame_end
        cdef object message
        cdef bint valid
        if opcode & 8:
            self.take_control(data, size)
            return <Py_ssize_t>size
        if self.close_queued:
            # RFC 6455 5.5.1 lets us ignore data after our own Close; its bytes still have to
            # be passed over to find the peer's.
            self.remaining -= size
            if self.remaining == 0:
                self.in_frame = False
                if self.frame.fin:
                    message_drop(&self.message)
            return <Py_ssize_t>size
        if self.message.packed:
            self.take_packed(data, size)
            return <Py_ssize_t>size
        if self.frame.fin and self.message.fragments == 1 and size == self.frame.length:
            # The whole message is here.
            self.in_frame = False
            self.remaining = 0
            self.message.opcode = 0
            self.message.fragments = 0
            self.last_opcode = opcode
            message = parse_message(opcode, data, size, self.frame.key, self.text_as_bytes, &valid)
            if not valid:
                self.violated(INVALID_DATA, "text is not valid UTF-8")
            else:
                self.on_message(message)
            return <Py_ssize_t>size
        phase = <unsigned>(self.frame.length - self.remaining) & 3
        frame_end = self.message.size + self.remaining
        if message_append(&self.message, data, size, self.frame.key, phase, frame_end,
                          self.frame.fin) == INVALID_TEXT:
            self.violated(INVALID_DATA, "text is not valid UTF-8")
            return <Py_ssize_t>size
        self.remaining -= size
        if self.remaining == 0:
            self.end_message()
        return <Py_ssize_t>size

    cdef int take_packed(self, uint8_t *data, size_t size) except -1:
        """Take what there is of the current frame's payload, which is compressed."""
        cdef bint whole = self.frame.fin and self.message.fragments == 1 and size == self.frame.length
        cdef object message
        cdef int verdict
        active.unmask(data, data, size, self.frame.key, <unsigned>(self.frame.length - self.remaining) & 3)
        self.remaining -= size
        if whole:
            self.in_frame = False
            self.last_opcode = self.message.opcode
            message = inflate_whole(self.deflating, &self.message, data, size, self.max_size, self.text_as_bytes,
                                    &verdict)
            return self.bad_message(verdict) if verdict else self.on_message(message)
        verdict = inflate_some(self.deflating, &self.message, data, size, self.max_size)
        if verdict == 0 and self.remaining == 0:
            if self.frame.fin:
                verdict = inflate_end(self.deflating, &self.message, self.max_size)
            if verdict == 0:
                return self.end_message()
        return self.bad_message(verdict) if verdict else 0

    cdef int bad_message(self, int verdict) except -1:
        if verdict == TOO_LARGE:
            return self.violated(TOO_BIG, f"message is more than {self.max_size} bytes inflated, "
                                          f"limit is {self.max_size}")
        if verdict == ENDLESS:
            return self.violated(TOO_BIG, "a compressed message is longer than its content explains")
        if verdict == CORRUPT:
            # RFC 7692 names no code; this is "not consistent with the type of the message", 7.4.1.
            return self.violated(INVALID_DATA, "a compressed message is invalid")
        return self.violated(INVALID_DATA, "text is not valid UTF-8")

    cdef int end_message(self) except -1:
        """The current data frame is complete; the message is when it was the last."""
        cdef object message
        cdef bint valid
        self.in_frame = False
        if self.message.handed or (self.streaming and not self.frame.fin):
            return self.end_fragment()
        if not self.frame.fin:
            return 0
        self.last_opcode = self.message.opcode
        message = message_finish(&self.message, self.text_as_bytes, &valid)
        if not valid:
            return self.violated(INVALID_DATA, "text is not valid UTF-8")
        return self.on_message(message)

    cdef int end_fragment(self) except -1:
        """Hand on what has come of a message that the consumer takes in fragments."""
        cdef object data
        cdef bint fin = self.frame.fin
        cdef bint valid = not fin or self.message.opcode != WS_TEXT or self.message.utf8.dfa == 0
        if not valid:
            return self.violated(INVALID_DATA, "text is not valid UTF-8")
        self.last_opcode = self.message.opcode
        data = message_take(&self.message, self.text_as_bytes)
        if fin:
            message_drop(&self.message)
        elif len(data) == 0:
            return 0
        return self.on_fragment(data, fin)

    cdef uint8_t *direct_buffer(self, size_t *room) except? NULL:
        """
        Tell where the next bytes from the peer may be received without a copy.

        Returns: NULL unless a large payload is under way; else `room[0]` bytes to fill, of which
            `direct_received` takes any number.
        """
        if (not self.in_frame or self.remaining < DIRECT_MIN or self.frame.opcode & 8 or self.held
                or self.failed or self.close_arrived or self.close_queued or self.message.packed):
            return NULL
        return message_tail(&self.message, <size_t>self.remaining, self.message.size + self.remaining,
                            self.frame.fin, room)

    cdef int direct_received(self, size_t size) except -1:
        """Take `size` bytes that were received into `direct_buffer`."""
        cdef unsigned phase = <unsigned>(self.frame.length - self.remaining) & 3
        if message_received(&self.message, size, self.frame.key, phase) == INVALID_TEXT:
            return self.violated(INVALID_DATA, "text is not valid UTF-8")
        self.remaining -= size
        if self.remaining == 0:
            self.end_message()
        return 0

    cdef int take_control(self, uint8_t *data, size_t size) except -1:
        cdef uint8_t *payload = data
        cdef size_t have = <size_t>(self.frame.length - self.remaining)
        if size < self.frame.length:
            # It arrives in pieces.
            if self.control == NULL:
                self.control = <uint8_t *>PyMem_Malloc(WS_CONTROL_MAX)
                if self.control == NULL:
                    raise MemoryError
            payload = self.control
            # have + size <= frame.length <= 125, ws_header_decode saw to that
            active.unmask(payload + have, data, size, self.frame.key, <unsigned>have & 3)
        else:
            active.unmask(data, data, size, self.frame.key, 0)
        self.remaining -= size
        if self.remaining:
            return 0
        self.in_frame = False
        try:
            self.end_control(payload, <size_t>self.frame.length)
        finally:
            if self.control != NULL:
                PyMem_Free(self.control)
                self.control = NULL
        return 0

    cdef int end_control(self, const uint8_t *payload, size_t size) except -1:
        cdef bytes data
        if self.frame.opcode == WS_CLOSE:
            return self.end_close(payload, size)
        data = PyBytes_FromStringAndSize(<const char *>payload, <Py_ssize_t>size)
        if self.frame.opcode == WS_PONG:
            return self.on_pong(data)
        # RFC 6455 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in
        # response, unless it already received a Close frame." Our own Close is no reason not to.
        self.send_frame(WS_FIN | WS_PONG, payload, size, NULL)
        return self.on_ping(data)

    cdef int end_close(self, const uint8_t *payload, size_t size) except -1:
        cdef unsigned code = NO_STATUS
        cdef str reason = ""
        cdef ws_utf8 utf8
        if size == 1:
            return self.violated(PROTOCOL_ERROR, "a Close frame's payload is 1 byte")
        if size:
            code = payload[0] << 8 | payload[1]
            if not ws_close_code_valid(code):
                return self.violated(PROTOCOL_ERROR, f"close code is {code}, which must not be sent")
            utf8.dfa = utf8.non_ascii = 0
            if active.validate(&utf8, payload + 2, size - 2) != size - 2 or utf8.dfa != 0:
                return self.violated(INVALID_DATA, "a close reason is not valid UTF-8")
            reason = payload[2:size].decode()
        self.settle()
        self.close_arrived = True
        self.close_received = (int(code), reason)
        message_drop(&self.message)
        if not self.close_queued:
            # RFC 6455 5.5.1: "the endpoint typically echos the status code it received."
            self.peer_closed_first = True
            self.close_queued = True
            self.close_sent = self.close_received
            self.send_frame(WS_FIN | WS_CLOSE, payload, size, NULL)
        return self.stop()

    cdef int send_frame(self, uint8_t first, const uint8_t *data, size_t size, PyObject *owner) except -1:
        cdef uint8_t[WS_HEADER_MAX] header
        cdef unsigned header_size = ws_header_encode(header, first, size)
        if self.client:
            return self.send_masked(header, header_size, data, size)
        return self.write(header, header_size, data, size, owner)

    cdef int send_message(self, const Payload *payload, PyObject *owner, object compress) except -1:
        """Send a whole message, compressed if that was agreed on and is worth it, or `compress` says so."""
        if (self.deflating != NULL and is_worth(self.deflating, payload.size, compress)
                and self.send_packed(WS_FIN | WS_RSV1 | payload.opcode, payload, compress is not None)):
            return 0
        return self.send_frame(WS_FIN | payload.opcode, payload.data, payload.size, owner)

    cdef bint send_packed(self, uint8_t first, const Payload *payload, bint needed) except -1:
        """Send a frame compressed; but not, unless it is `needed`, if it is not smaller then. Returns: whether."""
        cdef Payload packed
        cdef object owner
        if self.client:
            # `packed` may lie in memory that all threads share, until it is masked.
            draw_masks()
        try:
            owner = deflate_message(self.deflating, payload, not first & WS_FIN, needed, &packed)
            if packed.data == NULL:
                return False
            self.send_frame(first, packed.data, packed.size, <PyObject *>owner)
        except BaseException:
            if self.deflating != NULL:
                forget_output(self.deflating)  # it knows of what the peer does not get
            raise
        return True

    cdef int use_deflate(self, agreed) except -1:
        """Compression was agreed on: an extensions.Agreed."""
        self.deflating = deflating_new(agreed)
        self.rsv_allowed = WS_RSV1 >> 4
        return 0

    cdef int send_masked(self, uint8_t *header, unsigned header_size, const uint8_t *data, size_t size) except -1:
        """Send as a client must, RFC 6455 5.3: masked, with a key that nobody can foresee."""
        cdef uint8_t[SMALL_MASKED] small
        cdef uint8_t *masked = small
        cdef bytes large = None
        header[1] |= 0x80
        next_mask(header + header_size)
        if size > SMALL_MASKED:
            large = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
            masked = <uint8_t *>PyBytes_AS_STRING(large)
        active.unmask(masked, data, size, header + header_size, 0)
        # Below SMALL_MASKED `write` copies.
        return self.write(header, header_size + 4, masked, size, <PyObject *>large)

    cdef int send_close(self, code, str reason) except -1:
        """
        Begin the closing handshake, unless it has begun.

        Args:
            code: None sends an empty Close frame.
        Raises: ValueError for what a Close frame must not carry; then nothing is sent.
        """
        cdef bytes payload
        if code is None and reason:
            raise ValueError(f"close reason is {reason!r}, and there is no code to go with it")
        payload = b"" if code is None else encode_close(code, reason)
        if self.close_queued:
            return 0
        self.close_queued = True
        self.close_sent = (NO_STATUS, "") if code is None else (int(code), reason)
        message_drop_keep(self)
        return self.send_frame(WS_FIN | WS_CLOSE, payload, <size_t>len(payload), <PyObject *>payload)

    cdef int violated(self, int code, str reason) except -1:
        """The peer broke a rule: act on what came before, then fail the connection."""
        self.settle()
        return self.fail(code, reason)

    cdef int settle(self) except -1:
        """Nothing will be delivered any more: the consumer may act on what was."""
        return 0

    cdef int fail(self, int code, str reason) except -1:
        """Send Close(`code`), unless one was sent, and parse nothing more."""
        if self.failed:
            return 0
        self.failed = True
        message_drop(&self.message)
        if not self.close_arrived:
            self.send_close(code, reason)
        return self.stop()

    cdef int stop(self) except -1:
        """The connection was failed, or the peer has closed it: nothing more will come."""
        return 0

    cdef int on_message(self, object message) except -1:
        known.text = NULL
        return 0

    cdef int on_fragment(self, object data, bint fin) except -1:
        return 0

    cdef int on_ping(self, bytes payload) except -1:
        return 0

    cdef int on_pong(self, bytes payload) except -1:
        return 0

    cdef int write(self, const uint8_t *header, unsigned header_size, const uint8_t *data, size_t size,
                   PyObject *owner) except -1:
        return 0


cdef int message_drop_keep(Protocol self) except -1:
    # After our Close the peer may still finish a fragmented message, which is passed over;
    # that one is under way stays known, for the rules of 5.4.
    cdef uint8_t opcode = self.message.opcode
    cdef uint8_t packed = self.message.packed
    cdef uint32_t fragments = self.message.fragments
    message_drop(&self.message)
    self.message.opcode = opcode
    self.message.packed = packed
    self.message.fragments = fragments
    return 0
