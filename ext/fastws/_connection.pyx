"""Connections: what a handler holds, and how a handler is called.

In: requests and protocol events, from an endpoint's carrier; calls from handlers. Out: calls of
handler functions, messages for coroutines, and frames. RFC 6455 4.2 and 6.

A handler is functions that are called from inside the batch that is being parsed, or a coroutine
function, `Callbacks.main`, whose task takes messages from the inbox; see `_awaitables`.
"""

import asyncio
import codecs
import logging
import uuid

from fastws.codes import State
from fastws.exceptions import ConcurrencyError, ConnectionClosed, InvalidState
from fastws.handshake import rejection
from fastws.log import report

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF

from fastws._awaitables cimport (
    READY, TAKE_AS_IT_IS, TAKE_BYTES, TAKE_FRAGMENT, TAKE_NEXT, TAKE_STR, Fragment, is_awaitable_of_ours,
    receiving, wake_receiver,
)
from fastws._endpoint cimport DUE_LINGER, LINGERING, OPENING, RUNNING, Endpoint, Extras
from fastws._frames cimport WS_TEXT
from fastws._inbox cimport inbox_empty, inbox_put, inbox_take
from fastws._messages cimport known
from fastws._sending cimport Sending
from fastws._topics cimport Topics, leave_topics

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyObject_Vectorcall(object function, PyObject **args, size_t count, PyObject *names)
    bint PyCoro_CheckExact(object)

UTF8_DECODER = codecs.getincrementaldecoder("utf-8")

cdef enum:
    NORMAL = 1000
    GOING_AWAY = 1001
    ABNORMAL = 1006
    INTERNAL_ERROR = 1011


@cython.final
cdef class Connection(Sending):
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
        Raises: ConnectionClosed; InvalidState on the client's side; ValueError for a pattern with `since`.
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
        """The peer's address: (host, port), four items for IPv6, "" for a Unix socket."""
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

    # ------------------------------------------------------------------ protocol events

    @cython.nonecheck(False)
    cdef int on_message(self, object message) except -1:
        if self.callbacks.on_message is None:
            known.text = NULL
            return 0 if self.callbacks.main is None else self.deliver(message)
        if known.text == NULL:
            return self.call(self.callbacks.on_message, <PyObject *>message, NULL, False)
        try:
            return self.call(self.callbacks.on_message, <PyObject *>message, NULL, False)
        finally:
            known.text = NULL

    cdef int on_fragment(self, object data, bint fin) except -1:
        cdef Fragment fragment = Fragment.__new__(Fragment)
        fragment.data = data
        fragment.fin = fin
        return self.deliver(fragment)

    @cython.nonecheck(False)
    cdef int deliver(self, object item) except -1:
        if self.discarding:
            # The rest of a message that recv_streaming left before its end.
            if isinstance(item, Fragment):
                self.discarding = not (<Fragment>item).fin
                return 0
            self.discarding = False
        if type(item) is not Fragment or (<Fragment>item).fin:
            self.streaming = False  # that was for one message
        inbox_put(&self.inbox, item)
        if self.inbox.count >= self.settings.high_water:
            self.full = True
            self.hold()
        return 0

    cdef int settle(self) except -1:
        # Only parsing calls it, so that no task is running.
        return self.input_done()

    cdef int input_done(self) except -1:
        if self.receiver is None or inbox_empty(self.inbox):
            return 0
        try:
            return wake_receiver(self, True)
        except BaseException as error:
            # SystemExit and KeyboardInterrupt, which a task does not keep to itself.
            return self.carrier.raise_later(error)

    cdef int on_ping(self, bytes payload) except -1:
        if self.callbacks.on_ping is not None and not self.close_queued:
            return self.call(self.callbacks.on_ping, <PyObject *>payload, NULL, False)
        return 0

    cdef int on_pong(self, bytes payload) except -1:
        cdef list ping, pings
        cdef int i
        self.keepalive_answered(payload)
        pings = None if self.extras is None else self.extras.pings
        if pings is not None:
            for i in range(len(pings)):
                if pings[i][0] == payload:
                    # RFC 6455 5.5.3: a Pong may answer the most recent Ping only, so that it
                    # answers all those before, too.
                    now = self.carrier.seconds()
                    for ping in pings[:i + 1]:
                        ping[2] = now - ping[1]
                        if len(ping) > 3 and not ping[3].done():
                            ping[3].set_result(ping[2])
                    self.latency = pings[i][2]
                    del pings[:i + 1]
                    break
        if self.callbacks.on_pong is not None and not self.close_queued:
            return self.call(self.callbacks.on_pong, <PyObject *>payload, NULL, False)
        return 0

    # ------------------------------------------------------------------ handlers

    @cython.nonecheck(False)
    cdef int call(self, object function, PyObject *first, PyObject *second, bint closing) except -1:
        """
        Call a handler function with this connection and up to two arguments.

        What it raises costs this connection 1011; a coroutine that it returns becomes a task,
        and delivery is held until that has ended.
        """
        cdef PyObject *args[5]
        cdef size_t count = 1 + (first != NULL) + (second != NULL)
        cdef object result
        args[1] = <PyObject *>self.handler
        args[2] = <PyObject *>self
        args[3] = first
        args[4] = second
        try:
            if self.callbacks.bound:
                result = PyObject_Vectorcall(function, &args[1], (count + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
            else:
                result = PyObject_Vectorcall(function, &args[2], count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
            if result is not None and result is not READY:
                if PyCoro_CheckExact(result) or (not is_awaitable_of_ours(result) and asyncio.iscoroutine(result)):
                    self.start_task(result, function, closing)
        except BaseException as error:
            self.crashed(error, function)
        return 0

    cdef int start_task(self, coroutine, function, bint closing) except -1:
        task = self.carrier.loop.create_task(coroutine)
        self.settings.tasks.add(task)
        self.more().task = task
        self.extras.function = function
        self.busy = True
        self.hold()
        task.add_done_callback(self.task_done)
        return 0

    def task_done(self, task):
        """Internal: the task of an `async def` callback has ended."""
        self.settings.tasks.discard(task)
        self.extras.task = None
        self.busy = False
        self.hold()
        if task.cancelled():
            self.begin_close(GOING_AWAY, "")
        elif task.exception() is not None:
            error = task.exception()
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                # The task has raised it out of the loop.
                self.fail_internally()
            else:
                self.crashed(error, self.extras.function)
            self.after_input()
        if self.closed_due:
            self.closed_due = False
            self.notify_closed()
        elif not self.held:
            self.carrier.resume(self)
        self.settings.on_idle()

    cdef int begin(self) except -1:
        if self.callbacks.main is True:
            return 0  # whoever takes messages runs already
        if self.callbacks.main is not None:
            return self.start_main()
        if self.callbacks.on_open is not None:
            return self.call(self.callbacks.on_open, NULL, NULL, False)
        return 0

    cdef int start_main(self) except -1:
        """Run the coroutine handler as a task, for as long as the connection lasts."""
        try:
            coroutine = self.callbacks.main(self)
            if not asyncio.iscoroutine(coroutine):
                raise TypeError(f"the handler {self.callbacks.main!r} returned {coroutine!r:.100}, "
                                "expected a coroutine: make it `async def`")
            task = self.carrier.loop.create_task(coroutine)
        except BaseException as error:
            return self.crashed(error, self.callbacks.main)
        self.settings.tasks.add(task)
        self.more().task = task
        task.add_done_callback(self.main_done)
        return 0

    def main_done(self, task):
        """Internal: the coroutine handler has ended; so does the connection."""
        self.settings.tasks.discard(task)
        self.extras.task = None
        if task.cancelled():
            self.begin_close(GOING_AWAY, "")
        elif task.exception() is None:
            self.begin_close(NORMAL, "")
        else:
            error = task.exception()
            if isinstance(error, ConnectionClosed) and (self.phase != RUNNING or self.close_queued):
                report(self.settings.logger, logging.DEBUG, "handler stopped by %r", error)
            elif not isinstance(error, (SystemExit, KeyboardInterrupt)):
                report(self.settings.logger, logging.ERROR, "connection handler failed", error=error)
            self.fail_internally()
            self.after_input()
        # Nobody will take what comes now.
        self.full = self.paused = False
        self.go_on()
        self.settings.on_idle()

    cdef int crashed(self, error, function) except -1:
        """A handler raised `error`: that costs its connection 1011 and one log record."""
        cdef object on_error = None if self.callbacks is None else self.callbacks.on_error
        if isinstance(error, ConnectionClosed):
            # Its own connection is closed, or another's is, which is no fault of this one.
            report(self.settings.logger, logging.DEBUG, "handler stopped by %r", error)
            return 0
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            self.carrier.raise_later(error)
        elif on_error is not None and function is not on_error:
            self.call(on_error, <PyObject *>error, NULL, False)
        else:
            report(self.settings.logger, logging.ERROR, "connection handler failed", error=error)
        return self.fail_internally()

    cdef int drained(self) except -1:
        if self.callbacks.on_drain is not None:
            return self.call(self.callbacks.on_drain, NULL, NULL, False)
        return 0

    cdef int notify_closed(self) except -1:
        """Call on_close, or tell the coroutine: once, and after everything that was delivered before."""
        leave_topics(self, True)
        if self.closed_done:
            return 0
        Sending.notify_closed(self)
        if self.callbacks is None:
            return 0
        if self.busy:
            self.closed_due = True
            return 0
        self.closed_done = True
        if self.callbacks.on_close is not None:
            code = self.close_code
            reason = self.close_reason
            return self.call(self.callbacks.on_close, <PyObject *>code, <PyObject *>reason, True)
        return 0

    cdef int released(self) except -1:
        wake_receiver(self, False)
        return Endpoint.released(self)

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

    def abort(self):
        """Close the TCP connection now, with no closing handshake."""
        self.check_thread()
        self.carrier.drop(self)
