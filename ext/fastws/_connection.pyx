"""Connections: what a handler holds.

In: calls from handlers. Out: messages for coroutines, subscriptions, and what there is to know.

A handler is functions that are called from inside the batch that is being parsed (`_handling`), or a coroutine
function, `Callbacks.main`, whose task takes messages from the inbox (`_receiving`).
"""

import codecs
import uuid

from fastws.codes import State
from fastws.exceptions import ConcurrencyError, InvalidState
from fastws.handshake import rejection

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF

from fastws._endpoint cimport DUE_LINGER, LINGERING, OPENING, RUNNING, Extras
from fastws._frames cimport WS_TEXT
from fastws._inbox cimport inbox_empty, inbox_take
from fastws._receiving cimport (
    TAKE_AS_IT_IS, TAKE_BYTES, TAKE_FRAGMENT, TAKE_NEXT, TAKE_STR, Fragment, receiving,
)
from fastws._topics cimport Topics, leave_topics

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

UTF8_DECODER = codecs.getincrementaldecoder("utf-8")

cdef enum:
    ABNORMAL = 1006
    # Seconds from a message until a coroutine that waits for no other is taken to be done with it.
    AT_WORK = 2


@cython.final
cdef class Connection(Handling):
    """
    A WebSocket connection, as handlers and clients get it.

    Hashable, weakly referenceable, and open to attributes of your own (`ws.user = ...`).
    Its methods may be called from the thread of its event loop only.
    """

    def __dealloc__(self):
        # However it ended: topics do not keep their subscribers alive.
        leave_topics(self, False)

    # ------------------------------------------------------------------ input

    def recv(self, decode=None):
        """
        Wait for the next message, RFC 6455 6.2.

        Cancelling the wait loses no message.

        Args:
            decode: None gives text as `text_as` says, str by default, and binary as bytes; True
                gives str and False gives bytes, whatever came.

        Returns: an awaitable that gives the message.

        Raises, from `await`:
            ConnectionClosed: the connection is closed, and all messages before that were taken.
            ConcurrencyError: another coroutine is in `recv` or `recv_streaming`.
        Raises: InvalidState when messages go to callbacks.
        """
        if self.callbacks.main is None or PyThread_get_thread_ident() != self.carrier.thread:
            self.check_receives()
        if self.taking_stream:
            raise ConcurrencyError("a coroutine is in recv_streaming for this connection already")
        return receiving(self, TAKE_AS_IT_IS if decode is None else TAKE_STR if decode else TAKE_BYTES)

    def __aiter__(self):
        self.check_receives()
        return self

    def __anext__(self):
        if self.taking_stream:
            raise ConcurrencyError("a coroutine is in recv_streaming for this connection already")
        return receiving(self, TAKE_NEXT)

    async def recv_streaming(self, decode=None):
        """
        Take the next message in fragments, as they come, RFC 6455 5.4.

        A message that came whole is one fragment. Exhaust the iterator: what is left of the message
        otherwise is thrown away.

        Args:
            decode: as for `recv`.

        Yields: str or bytes.
        Raises: as `recv`.
        """
        self.check_receives()
        if self.taking_stream:
            raise ConcurrencyError("a coroutine is in recv_streaming for this connection already")
        self.taking_stream = True
        self.streaming = inbox_empty(self.inbox)  # else the next message is there already
        whole = False
        # Of text as bytes fragments may cut a character.
        decoder = UTF8_DECODER() if decode else None
        try:
            while not whole:
                item = await receiving(self, TAKE_FRAGMENT)
                whole = not isinstance(item, Fragment) or (<Fragment>item).fin
                try:
                    data = (<Fragment>item).data if isinstance(item, Fragment) else item
                    if decoder is not None and isinstance(data, bytes):
                        data = decoder.decode(data, whole)
                    elif decode is False and isinstance(data, str):
                        data = data.encode()
                except UnicodeDecodeError:
                    whole = True
                    self.fail_decoding()
                    raise self.closed_error() from None
                yield data
        finally:
            self.taking_stream = False
            self.streaming = False
            if not whole:
                self.discard_fragments()

    cdef int discard_fragments(self) except -1:
        """Drop what is left of a message of which a fragment is, or would be, next."""
        cdef PyObject *item
        cdef bint fin
        while not inbox_empty(self.inbox) and type(<object>self.inbox.items[self.inbox.head]) is Fragment:
            item = inbox_take(self.inbox)
            fin = (<Fragment>item).fin
            Py_XDECREF(item)
            if fin:
                break
        else:
            self.discarding = inbox_empty(self.inbox) and self.message.handed != 0
        self.item_taken()
        return 0

    cdef int check_receives(self) except -1:
        self.check_thread()
        if self.callbacks is None:
            raise self.closed_error()
        if self.callbacks.main is None:
            raise InvalidState("messages go to on_message; recv is for coroutine handlers")
        return 0

    def pause_reading(self):
        """Deliver nothing more, and stop receiving, until `resume_reading`; the peer will notice."""
        self.check_thread()
        self.paused = True
        self.hold()

    def resume_reading(self):
        """Undo `pause_reading`."""
        self.check_thread()
        if self.paused:
            self.paused = False
            self.go_on()

    @property
    def message_is_text(self):
        """Whether the message delivered last was text; with `text_as="bytes"` its type does not tell."""
        return self.last_opcode == WS_TEXT

    # ------------------------------------------------------------------ topics

    def subscribe(self, str topic not None, *, since=None):
        """
        Get what is published for `topic` from here on; the subscription ends with the connection.

        Args:
            topic: a name; or a pattern, where `*` stands for one part of a name between dots and, as
                the last part, for the whole rest: "trades.*", "*.btc".
            since: the number of the last message that the peer has; what the topic's history has of
                those after it is queued. With a backplane numbers by the epoch of the server that published,
                see `Subscribed.positions`; a number alone is one of this server's. None queues what the
                topic retains.

        Returns: `(sequence, replayed, complete)`: the number of the topic's last message, how many were
            queued just now, and whether these are all since `since`.
        Raises: ConnectionClosed; InvalidState on the client's side; ValueError for a pattern with `since`,
            and below 0; TypeError for a `since` that is something else.
        """
        self.check_thread()
        if self.settings.topics is None:
            raise InvalidState("topics are a server's")
        if self.phase != RUNNING or self.close_queued:
            raise self.closed_error()
        return (<Topics>self.settings.topics).subscribe(self, topic, since)

    def unsubscribe(self, str topic not None):
        """End a subscription. Returns: whether there was one."""
        self.check_thread()
        return self.settings.topics is not None and (<Topics>self.settings.topics).unsubscribe(self, topic)

    @property
    def topics(self):
        """The topics and patterns that it has subscribed to, as a new set."""
        return set() if self.settings.topics is None else set((<Topics>self.settings.topics).names(self))

    def publish(self, str topic not None, message, *, key=None, text=None, compress=None):
        """Publish for all subscribers but this connection; see `Server.publish`."""
        self.check_thread()
        if self.settings.topics is None:
            raise InvalidState("topics are a server's")
        return (<Topics>self.settings.topics).publish(topic, message, text, self, key, compress)

    # ------------------------------------------------------------------ facts

    @property
    def state(self):
        """The connection's `State`, RFC 6455 4.1 and 7.1."""
        if self.phase == OPENING:
            return State.CONNECTING
        if self.phase == RUNNING:
            return State.CLOSING if self.close_queued else State.OPEN
        return State.CLOSING if self.phase == LINGERING else State.CLOSED

    @property
    def close_code(self):
        """_The WebSocket Connection Close Code_, RFC 6455 7.1.5: the peer's, 1005 if its Close has
        none, 1006 if there was no Close, None while the connection is not closed."""
        if self.phase < LINGERING:
            return None
        return ABNORMAL if self.close_received is None else self.close_received[0]

    @property
    def close_reason(self):
        """The peer's reason, RFC 6455 7.1.6; "" if there is none, None while not closed."""
        if self.phase < LINGERING:
            return None
        return "" if self.close_received is None else self.close_received[1]

    @property
    def remote_address(self):
        """
        The client's address: (host, port), four items for IPv6, "" for a Unix socket.

        It is what a trusted proxy said, with port 0 where that said none; else the address of the peer.
        """
        if self.extras is not None and self.extras.client_address is not None:
            return self.extras.client_address
        return self.carrier.address_of(self, True)

    @property
    def local_address(self):
        """Our address of this connection; None once the descriptor is closed."""
        return self.carrier.address_of(self, False)

    @property
    def id(self):
        """A UUID of this connection's own, for logs."""
        cdef Extras extras = self.more()
        if extras.id is None:
            extras.id = uuid.uuid4()
        return extras.id

    @property
    def server(self):
        """The `Server` that accepted the connection."""
        return self.settings.server

    @property
    def logger(self):
        """The server's logger."""
        return self.settings.logger

    def get_extra_info(self, name, default=None):
        """
        Return what there is to know of the transport; `default` for what there is not.

        Args:
            name: "peername", "sockname" or "socket_fd"; with TLS also "sslcontext", "ssl_object",
                "peercert", "cipher" and "compression", as asyncio has them.
        """
        if name == "peername":
            return self.remote_address
        if name == "sockname":
            return self.local_address
        if name == "socket_fd" and self.fd >= 0:
            return self.fd
        value = None
        if self.tls is not None:
            value = self.tls.info(name)
        elif self.extras is not None and self.extras.link is not None:
            value = self.extras.link.transport.get_extra_info(name)
        return default if value is None else value

    def respond(self, status, text):
        """
        Make a plain text `Response`, for `process_request` to return.

        Args:
            status: the HTTP status code.
            text: the body.
        """
        return rejection(status, text)

    def __repr__(self):
        return f"<fastws.Connection {self.remote_address} {self.state.name}>"

    # ------------------------------------------------------------------ the end

    def shut_down(self, code=1001, reason=""):
        """Internal: the server closes. End the closing handshake, or what there is of the opening."""
        if self.phase == OPENING:
            if self.extras is not None and self.extras.negotiation is not None:
                self.extras.negotiation.cancel()
            else:
                self.reject(rejection(503, "The server is shutting down."))
        elif self.phase == RUNNING:
            self.close(code, reason)
        elif self.phase == LINGERING:
            # All is said, and the peer has not left: it gets a second more.
            self.carrier.set_deadline(self, DUE_LINGER, 1)

    def leave(self, code=1001, reason="", bint now=False):
        """
        Internal: another server takes over. Close when nothing is under way: after the next message, or now.

        Args:
            now: it has waited long enough for a next message; what is under way is waited for all the same.

        Returns: whether it is closing, or closed.
        """
        if self.phase == RUNNING and not self.close_queued:
            self.more().parting = (code, reason)
            self.leaving = True
            if now:
                self.leave_if_idle()
        return self.phase > RUNNING or self.close_queued

    cdef int leave_if_idle(self) except -1:
        if (self.phase != RUNNING or self.close_queued or self.busy or self.starting or self.in_frame
                or self.message.opcode or self.rest != NULL or self.extras.stream is not None):
            return 0
        # A coroutine is done with a message when it waits for the next. One that waits for none, and got none of
        # late, is none that answers.
        if self.callbacks.main is not None and (not inbox_empty(self.inbox) or (
                self.receiver is None and self.carrier.seconds() - self.received_at * 1e-9 < AT_WORK)):
            return 0
        self.leaving = False
        code, reason = self.extras.parting
        return self.begin_close(code, reason)

    def abort(self):
        """Close the TCP connection now, with no closing handshake."""
        self.check_thread()
        self.carrier.drop(self)
