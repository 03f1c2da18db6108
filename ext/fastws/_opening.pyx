"""Openings: the opening handshake of a connection, on either side, RFC 6455 4.

In: the bytes before the first frame. Out: the response or the request, and the start of what
follows: frames, or the end.
"""

import asyncio
import logging
from email.utils import formatdate

from fastws.exceptions import InvalidMessage
from fastws.handshake import Rejected, ServerHandshake, accepting, rejection
from fastws.http11 import Request, Response, http_date
from fastws.log import report
from fastws.proxy_protocol import InvalidProxyHeader

from libc.stdint cimport uint8_t

from fastws._endpoint cimport DUE_OPENING, GONE, OPENING, RUNNING, Endpoint
from fastws._settings cimport Callbacks


cdef enum:
    # So many bytes are kept of what comes before the request is answered; then nothing is received.
    EARLY_LIMIT = 64 * 1024

# Of a client's connection: messages go to recv().
cdef Callbacks RECEIVES = Callbacks({"main": True}, False)


cdef class Opening(Endpoint):
    """What a connection is until it is open; see `Connection`."""

    @property
    def request(self):
        """The `Request` that opened the connection."""
        if isinstance(self.head, bytes):
            self.head = Request.parse(self.head)
        if self.head is None and self.opening is not None:
            return self.opening.request
        return self.head

    @property
    def response(self):
        """The `Response` that opened the connection; None before."""
        if self.extras is not None and self.extras.response is not None:
            return self.extras.response
        if self.phase == OPENING or self.head is None:
            return None
        return accepting(self.settings.policy, self.request.headers["Sec-WebSocket-Key"].encode(),
                         self.subprotocol, self.extensions, formatdate(self.opened_at, usegmt=True))

    cdef int begin(self) except -1:
        """Frames may come: start the handler."""
        return 0

    cdef int agreed_on(self, handshake) except -1:
        """The opening handshake is complete: take what was agreed on."""
        cdef object deflate = handshake.deflate
        self.subprotocol = handshake.subprotocol
        if deflate is not None:
            self.extensions = deflate.header
            self.use_deflate(deflate)
            if deflate.out_takeover or deflate.in_takeover:
                self.carrier.watch_contexts()
        return 0

    # ------------------------------------------------------------------ the server's side

    cdef Py_ssize_t header_received(self, bytes data) except -1:
        cdef object header = self.tls.header_first
        try:
            used = header.receive_data(data)
        except InvalidProxyHeader as error:
            report(self.settings.logger, logging.WARNING, "%s dropped: %s", self.remote_address, error)
            self.carrier.drop(self)
            return len(data)
        if used is None:
            return len(data)
        if header.address is not None:
            self.more().client_address = header.address
        self.tls.header_first = None
        if self.tls.context is None:
            self.tls = None
        return used

    cdef int find_client(self) except -1:
        """The request came: whose it is, as a trusted proxy says."""
        cdef object peer = self.remote_address
        address = self.settings.proxies.client_of(self.request.headers, peer)
        if address is not peer:
            self.more().client_address = address
        return 0

    cdef int opening_received(self, bytes data) except -1:
        cdef object handshake = self.opening
        if self.client:
            return self.response_received(data)
        if self.deciding:
            return self.keep_early(data)
        if handshake is None:
            handshake = self.opening = ServerHandshake(self.settings.policy)
        try:
            if not handshake.receive_data(data):
                return 0
            if self.settings.proxies is not None:
                self.find_client()
            if self.settings.negotiate is None:
                return self.open_now(handshake.accept_bytes(self))
            result = self.settings.negotiate(self, handshake)
            if result is None:
                self.deciding = True
                return 0
            if asyncio.iscoroutine(result):
                self.deciding = True
                task = self.carrier.loop.create_task(result)
                self.more().negotiation = task
                self.settings.tasks.add(task)
                task.add_done_callback(self.negotiation_done)
                return 0
            return self.negotiated(result)
        except Rejected as error:
            report(self.settings.logger, logging.DEBUG, "opening handshake of %s rejected: %s",
                   self.remote_address, error)
            return self.reject(error.response)
        except Exception as error:
            report(self.settings.logger, logging.ERROR, "opening handshake failed", error=error)
            return self.reject(rejection(500, "Failed to open a WebSocket connection."))
        except BaseException as error:
            self.carrier.raise_later(error)
            return self.reject(rejection(500, "Failed to open a WebSocket connection."))

    def negotiation_done(self, task):
        """Internal: the task of an asynchronous `process_request` has ended."""
        self.settings.tasks.discard(task)
        self.more().negotiation = None
        self.deciding = False
        self.busy = False
        self.hold()
        if self.phase == OPENING:
            if task.cancelled():
                self.reject(rejection(503, "The server is shutting down."))
            elif task.exception() is not None:
                report(self.settings.logger, logging.ERROR, "opening handshake failed", error=task.exception())
                self.reject(rejection(500, "Failed to open a WebSocket connection."))
            else:
                try:
                    self.negotiated(task.result())
                except Exception as error:
                    report(self.settings.logger, logging.ERROR, "opening handshake failed", error=error)
                    self.reject(rejection(500, "Failed to open a WebSocket connection."))
            self.carrier.resume(self)
        elif not task.cancelled():
            task.exception()  # seen; there is nobody left to tell
        self.settings.on_idle()

    cdef int keep_early(self, bytes data) except -1:
        # Frames of a client that does not wait for the answer; the end of the connection shall still be seen.
        self.opening.rest += data
        if len(self.opening.rest) > EARLY_LIMIT:
            self.busy = True
            self.hold()
        return 0

    cdef int decided(self, response) except -1:
        """Answer the request that waits for it. Raises: ValueError for a response that cannot be sent."""
        if self.phase != OPENING:
            return 0
        self.negotiated(response)
        self.deciding = False
        if self.busy:
            self.busy = False
            self.go_on()
        return 0

    cdef int negotiated(self, response) except -1:
        if not isinstance(response, Response):
            raise TypeError(f"process_response returned {response!r:.100}, expected a Response or None")
        if response.status_code == 101:
            self.more().response = response
            if "Sec-WebSocket-Extensions" not in response.headers:
                self.opening.deflate = None  # a hook does not want it
            return self.open_now(self.opening.serialize(response))
        return self.reject(response)

    cdef int open_now(self, bytes reply) except -1:
        """The opening handshake is complete: `reply` goes out, and frames may come."""
        cdef object handshake = self.opening
        cdef bytes rest
        if self.phase != OPENING:
            return 0  # a hook has ended it
        self.head = handshake.head
        try:
            self.handler, self.callbacks = self.settings.make_handler(self)
        except Exception as error:
            report(self.settings.logger, logging.ERROR, "making a handler failed", error=error)
            return self.reject(rejection(500, "Failed to open a WebSocket connection."))
        if self.phase != OPENING:
            return 0
        self.agreed_on(handshake)
        rest = handshake.rest
        self.opening = None
        self.opened_at = http_date.second
        self.queue_bytes(reply)
        self.started()
        self.begin()
        if rest and self.callbacks.main is not None and self.phase == RUNNING:
            # Its task has not begun: it is to have these before what follows can end the connection.
            self.starting = True
            self.hold()
            self.carrier.loop.call_soon(self.begin_receiving)
        return self.feed_rest(rest)

    def begin_receiving(self):
        """Internal: whoever takes messages is ready for them."""
        if self.phase == RUNNING:
            self.starting = False
            self.go_on()

    cdef int feed_rest(self, bytes rest) except -1:
        """Take the frames that came in one piece with the opening handshake."""
        cdef bytearray copy
        if not rest or self.phase != RUNNING:
            return self.after_input()
        copy = bytearray(rest)
        return self.feed(<uint8_t *><char *>copy, len(copy))

    # ------------------------------------------------------------------ the client's side

    cdef int begin_as_client(self, handshake, future) except -1:
        """It is a client's, on its way: `handshake` is a ClientHandshake, `future` will be done with the connection."""
        self.client = True
        self.opening = handshake
        self.more().opened = future
        self.carrier.set_deadline(self, DUE_OPENING, self.settings.open_timeout)
        future.add_done_callback(self.opening_done)
        return 0

    cdef int connected(self) except -1:
        """The TCP connection stands: send the request, RFC 6455 4.1."""
        return self.queue_bytes(self.opening.request_bytes)

    cdef int response_received(self, bytes data) except -1:
        cdef object handshake = self.opening
        try:
            if not handshake.receive_data(data):
                return 0
            handshake.check()
        except Exception as error:
            return self.refuse(error)
        self.opening = None
        self.head = handshake.head
        self.agreed_on(handshake)
        self.more().response = handshake.response
        self.callbacks = RECEIVES
        self.started()
        # Until whoever opens it calls begin_receiving.
        self.starting = True
        self.hold()
        if not self.extras.opened.done():
            self.extras.opened.set_result(self)
        return self.feed_rest(handshake.rest)

    def opening_done(self, future):
        """Internal: whoever waits for a client's connection has it, or has given up."""
        if future.cancelled() and self.phase != GONE:
            self.carrier.drop(self)

    cdef int refuse(self, error) except -1:
        """There will be no connection: tell who waits for it why."""
        if not self.extras.opened.done():
            self.extras.opened.set_exception(error)
        return self.carrier.drop(self)

    cdef int lost(self) except -1:
        """Its descriptor is closed: with a RST, say, of which a client that waits for the response has not heard."""
        if self.client and self.opening is not None and not self.extras.opened.done():
            self.opening_ended("left before the opening handshake was complete")
        return Endpoint.lost(self)

    cdef int encryption_failed(self, error) except -1:
        if self.client and self.phase == OPENING:
            return self.refuse(error)
        return Endpoint.encryption_failed(self, error)

    cdef int opening_ended(self, str why) except -1:
        if self.client:
            try:
                if self.opening.receive_eof():
                    self.opening.check()
                self.refuse(InvalidMessage(f"the server {why}"))
            except Exception as error:
                self.refuse(error)
            return 0
        report(self.settings.logger, logging.DEBUG, "%s %s", self.remote_address, why)
        return 0

    cdef int reject(self, response) except -1:
        """Answer an HTTP response and close."""
        cdef bytes reply
        if self.phase != OPENING:
            return 0
        if self.opening is None:
            reply = response.serialize()
        else:
            try:
                reply = self.opening.serialize(response)
            except ValueError as error:
                # A hook made a response that cannot be sent.
                report(self.settings.logger, logging.ERROR, "opening handshake failed", error=error)
                reply = self.opening.serialize(rejection(500, "Failed to open a WebSocket connection."))
        self.queue_bytes(reply)
        self.opening = None
        return self.over()

    cdef int turn_away(self) except -1:
        """There are too many connections: say so, and close."""
        report(self.settings.logger, logging.WARNING, "%s turned away: %d connections, %d opening handshakes",
               self.remote_address, self.settings.open_count, self.settings.opening_count)
        if self.settings.ssl is not None:
            # An answer would cost a TLS handshake, of which there are too many.
            return self.carrier.drop(self)
        return self.reject(rejection(503, "Too many connections.", [("Retry-After", "5")]))
