"""Receiving: what `recv` returns, and what a Task is woken by.

In: `await`, and messages that arrive. Out: messages, errors, and the step of the task that waits.

Theory of operation. `await x` asks x for its next step. A `Receiving` that finds a message returns
it there and then, by a slot that makes no exception object where CPython allows that. One that
finds none gives itself to the task as the future to wait for: it has what a Task asks of a future
(`_asyncio_future_blocking`, `get_loop`, `add_done_callback`, `result`, `cancel`), and keeps the one
callback that the Task registers. When a batch of input is parsed the reactor calls that callback
at once, in its context, and the task takes its messages one by one without waiting again.

A message leaves the inbox only in the step that returns it, so that cancelling loses none.
"""

import asyncio

from fastws.exceptions import ConcurrencyError, ConnectionClosedOK

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t

from fastws._awaitables cimport Failing, Pinged, Ready, Waiting, iternextfunc, sendfunc, set_await_slots, thrown
from fastws._endpoint cimport GONE, LINGERING, Endpoint
from fastws._inbox cimport inbox_empty, inbox_take

cdef extern from *:
    """
    /* The slots behind `await`, in C: see _awaitables. */
    static int (*fastws_step)(PyObject *self, PyObject **result);

    static PySendResult fastws_receiving_send(PyObject *self, PyObject *value, PyObject **result)
    {
        (void)value;
        switch (fastws_step(self, result)) {
        case 1:
            return PYGEN_RETURN;
        case 0:
            Py_INCREF(self);
            *result = self;
            return PYGEN_NEXT;
        case -1:
            PyErr_SetNone(PyExc_StopAsyncIteration);
        }
        *result = NULL;
        return PYGEN_ERROR;
    }

    static PyObject *fastws_receiving_next(PyObject *self)
    {
        PyObject *result;
        switch (fastws_receiving_send(self, NULL, &result)) {
        case PYGEN_RETURN:
            /* str, bytes and Fragment: none of those that StopIteration would take apart. */
            PyErr_SetObject(PyExc_StopIteration, result);
            Py_DECREF(result);
            return NULL;
        default:
            return result;
        }
    }
    """
    iternextfunc fastws_receiving_next
    sendfunc fastws_receiving_send
    int (*fastws_step)(PyObject *, PyObject **) except -2

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *) noexcept
    int PyContext_Enter(PyObject *) noexcept
    int PyContext_Exit(PyObject *) noexcept
    void PyErr_Clear() noexcept

cdef enum:
    ABNORMAL = 1006

cdef enum State:
    NEW
    WAITING             # it is its endpoint's receiver
    WOKEN               # it may look again
    CANCELLED
    ENDED


@cython.final
cdef class Fragment:
    """A part of a message that is taken as it comes."""


@cython.final
@cython.freelist(64)
cdef class Receiving:
    """What `recv` returns: an awaitable, and while it waits the future of the task that awaits it."""
    cdef Endpoint endpoint
    cdef object callback, context
    cdef Receiving twin           # another that may be used again
    cdef list more                # further callbacks, (callback, context) each
    cdef uint8_t state            # a State
    cdef uint8_t taking           # a Taking
    cdef bint blocking

    # ---- an awaitable, and a collections.abc.Coroutine

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Take a message, or wait; `await` takes a shorter way."""
        cdef PyObject *message
        cdef int got = receiving_step(<PyObject *>self, &message)
        if got == 0:
            return self
        if got < 0:
            raise StopAsyncIteration
        value = <object>message
        Py_DECREF(value)
        raise StopIteration(value)

    def throw(self, kind, value=None, traceback=None):
        """Give up waiting and raise what is thrown."""
        self.leave()
        raise thrown(kind, value, traceback)

    def close(self):
        """Give up waiting."""
        self.leave()

    # ---- a future, as far as a Task asks

    @property
    def _asyncio_future_blocking(self):
        # None tells asyncio.isfuture that it is no future: it is one only while it waits.
        return self.blocking if self.state == WAITING else None

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, bint value):
        self.blocking = value

    def get_loop(self):
        """Return the event loop that it belongs to."""
        return self.endpoint.carrier.loop

    def add_done_callback(self, callback, *, context=None):
        """Have `callback(self)` called, in `context`, when there is something to take."""
        if self.state != WAITING:
            self.endpoint.carrier.loop.call_soon(callback, self, context=context)
        elif self.callback is None:
            self.callback = callback
            self.context = context
        else:
            if self.more is None:
                self.more = []
            self.more.append((callback, context))

    def remove_done_callback(self, callback):
        """Undo `add_done_callback`. Returns: how many were removed."""
        cdef list kept = [pair for pair in self.pairs() if pair[0] != callback]
        cdef Py_ssize_t removed = len(self.pairs()) - len(kept)
        self.callback = self.context = None
        self.more = None
        for pair in kept:
            self.add_done_callback(pair[0], context=pair[1])
        return removed

    def done(self):
        """Tell whether the wait is over."""
        return self.state != WAITING

    def cancelled(self):
        """Tell whether it was cancelled."""
        return self.state == CANCELLED

    def cancel(self, msg=None):
        """Stop waiting: whoever awaits gets CancelledError; no message is lost. Returns: whether it waited."""
        if self.state != WAITING:
            return False
        self.leave()
        self.state = CANCELLED
        self.call_later()
        return True

    def result(self):
        """Raise CancelledError when cancelled; the message itself is given by `await`."""
        if self.state == CANCELLED:
            raise asyncio.CancelledError

    def exception(self):
        """Return None; see `result`."""
        self.result()

    # ---- internal

    cdef list pairs(self):
        cdef list result = [] if self.callback is None else [(self.callback, self.context)]
        return result if self.more is None else result + self.more

    cdef int leave(self) except -1:
        if self.endpoint is not None and self.endpoint.receiver is self:
            self.endpoint.receiver = None
        self.state = ENDED
        return 0

    cdef int call_later(self) except -1:
        cdef list pairs = self.pairs()
        self.callback = self.context = None
        self.more = None
        for callback, context in pairs:
            self.endpoint.carrier.loop.call_soon(callback, self, context=context)
        return 0

    cdef int call_now(self) except -1:
        cdef object callback = self.callback
        cdef object context = self.context
        if callback is None or context is None or self.more is not None:
            return self.call_later()
        if PyContext_Enter(<PyObject *>context) < 0:
            # It is ours, too, so that it cannot be entered again.
            PyErr_Clear()
            return self.call_later()
        self.callback = self.context = None
        try:
            callback(self)
        finally:
            PyContext_Exit(<PyObject *>context)
        return 0


@cython.nonecheck(False)
cdef int receiving_step(PyObject *o, PyObject **result) except -2:
    """
    Take a message.

    Returns: 1 with `result[0]`, a new reference; 0 when it has to wait, for which it is
        registered then; -1 at the end of `async for`.
    Raises: ConnectionClosed, ConcurrencyError, CancelledError.
    """
    cdef Receiving self = <Receiving>o
    cdef Endpoint endpoint = self.endpoint
    cdef PyObject *item
    cdef object waits = endpoint.receiver
    if self.state == CANCELLED or self.state == ENDED:
        if self.state == CANCELLED:
            raise asyncio.CancelledError
        raise RuntimeError("cannot await again what has ended")
    if waits is not None and waits is not self:
        raise ConcurrencyError("a coroutine waits for this connection's next message already")
    while not inbox_empty(endpoint.inbox):
        endpoint.receiver = None
        self.state = ENDED
        item = inbox_take(endpoint.inbox)
        endpoint.item_taken()
        if self.taking == TAKE_AS_IT_IS or self.taking == TAKE_NEXT or self.taking == TAKE_FRAGMENT:
            result[0] = item
            return 1
        value = <object>item
        Py_XDECREF(item)
        if self.taking == TAKE_STR and isinstance(value, bytes):
            try:
                value = (<bytes>value).decode()
            except UnicodeDecodeError:
                # As if the peer had sent it as text. What is left to wait for is the end.
                endpoint.fail_decoding()
                self.state = NEW
                continue
        elif self.taking == TAKE_BYTES and isinstance(value, str):
            value = (<str>value).encode()
        elif self.taking == TAKE_EVENT:
            value = event_of(value)
        Py_INCREF(value)
        result[0] = <PyObject *>value
        return 1
    if self.taking == TAKE_EVENT and (endpoint.phase >= LINGERING or endpoint.close_queued):
        endpoint.receiver = None
        self.state = ENDED
        value = disconnect_of(endpoint)
        Py_INCREF(value)
        result[0] = <PyObject *>value
        return 1
    if endpoint.phase == GONE:
        endpoint.receiver = None
        self.state = ENDED
        error = endpoint.closed_error()
        if self.taking == TAKE_NEXT and isinstance(error, ConnectionClosedOK):
            return -1
        raise error
    endpoint.receiver = self
    self.state = WAITING
    self.blocking = True
    return 0


cdef object event_of(object item):
    # What is neither text nor binary is an event already.
    if type(item) is str:
        return {"type": "websocket.receive", "text": item}
    if type(item) is bytes:
        return {"type": "websocket.receive", "bytes": item}
    return item


cdef object disconnect_of(Endpoint endpoint):
    # The first Close counts, whose ever it is; without any it is 1006, RFC 6455 7.1.5.
    cdef object close = endpoint.close_received
    if endpoint.close_sent is not None and not (close is not None and endpoint.peer_closed_first):
        close = endpoint.close_sent
    code, reason = (ABNORMAL, "") if close is None else close
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


cdef object receiving(Endpoint endpoint, Taking taking):
    cdef Receiving self
    cdef Receiving spare = <Receiving>endpoint.spare_receiver
    if spare is not None and Py_REFCNT(<PyObject *>spare) == 2:
        # Nobody but the endpoint and this function has it: it begins anew.
        self = spare
    elif spare is not None and spare.twin is not None and Py_REFCNT(<PyObject *>spare.twin) == 1:
        # The reactor still has the one that it is waking the task by; nobody has the other.
        self = spare.twin
        spare.twin = None
        self.twin = spare
        endpoint.spare_receiver = self
    else:
        self = Receiving.__new__(Receiving)
        self.endpoint = endpoint
        if spare is not None and spare.twin is None:
            self.twin = spare
        if endpoint.phase != GONE:  # nobody would clear it
            endpoint.spare_receiver = self
    self.state = NEW
    self.taking = taking
    self.callback = self.context = None
    self.more = None
    return self


cdef int wake_receiver(Endpoint endpoint, bint now) except -1:
    cdef Receiving receiver
    if endpoint.receiver is None:
        return 0
    receiver = <Receiving>endpoint.receiver
    endpoint.receiver = None
    receiver.state = WOKEN
    return receiver.call_now() if now else receiver.call_later()


cdef bint is_awaitable_of_ours(object thing) noexcept:
    cdef object kind = type(thing)
    return kind is Ready or kind is Waiting or kind is Pinged or kind is Receiving or kind is Failing


fastws_step = receiving_step
set_await_slots(<PyTypeObject *>Receiving, fastws_receiving_next, fastws_receiving_send)
