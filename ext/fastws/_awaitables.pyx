"""Awaitables: what `send`, `close` and `ping` return, and what every awaitable of ours has under it.

In: `await`, and an endpoint's events. Out: results, and errors. What `recv` returns is in `_receiving`.
"""

cimport cython
from cpython.object cimport PyTypeObject

from fastws._endpoint cimport LINGERING, Endpoint

cdef extern from *:
    """
    /* The slots behind `await`, in C: Cython's add a traceback to every exception, StopIteration
     * too, and know no am_send. */
    static PyObject *fastws_self(PyObject *self)
    {
        Py_INCREF(self);
        return self;
    }

    static PySendResult fastws_ready_send(PyObject *self, PyObject *value, PyObject **result)
    {
        (void)self;
        (void)value;
        Py_INCREF(Py_None);
        *result = Py_None;
        return PYGEN_RETURN;
    }

    static PyObject *fastws_ready_next(PyObject *self)
    {
        (void)self;
        return NULL; /* with no exception it means StopIteration(None) */
    }

    static int fastws_set_slots(PyTypeObject *type, iternextfunc next, sendfunc send)
    {
        if (type->tp_as_async == NULL)
            return -1;
        type->tp_as_async->am_await = fastws_self;
        type->tp_as_async->am_send = send;
        type->tp_iter = fastws_self;
        type->tp_iternext = next;
        PyType_Modified(type);
        return 0;
    }
    """
    iternextfunc fastws_ready_next
    sendfunc fastws_ready_send
    int fastws_set_slots(PyTypeObject *, iternextfunc, sendfunc) noexcept


cdef int set_await_slots(PyTypeObject *kind, iternextfunc next_slot, sendfunc send_slot) except -1:
    if fastws_set_slots(kind, next_slot, send_slot) < 0:
        raise SystemError("a type without asynchronous slots")
    return 0


# ---------------------------------------------------------------- what they have in common

cdef class Awaitable:
    """What a kind of them adds is `send`, as a coroutine has it."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def throw(self, kind, value=None, traceback=None):
        """Raise what is thrown."""
        raise thrown(kind, value, traceback)

    def close(self):
        """Do nothing."""


cdef object thrown(kind, value, traceback):
    if isinstance(kind, BaseException):
        return kind
    error = value if isinstance(value, BaseException) else kind() if value is None else kind(value)
    return error if traceback is None else error.with_traceback(traceback)


# ---------------------------------------------------------------- nothing to wait for

@cython.final
cdef class Ready(Awaitable):
    """What `send` returns when there is nothing to wait for."""

    # Its own, for they are what the slots are set on.
    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        """End."""
        raise StopIteration

    def __repr__(self):
        return "<nothing to wait for>"


cdef Ready READY = Ready()


@cython.final
cdef class Failing(Awaitable):
    """What `send` returns when it is for `await` to raise."""

    def send(self, value):
        """Raise the error."""
        raise self.error


cdef object failing(error):
    cdef Failing self = Failing.__new__(Failing)
    self.error = error
    return self


# ---------------------------------------------------------------- events, which are rarer

@cython.final
cdef class Waiting(Awaitable):
    """What `send` and `close` return when there is something to wait for; a wait begins with `await`."""

    def send(self, value):
        """Begin to wait, or go on."""
        if self.waits is None:
            future = self.endpoint.drain_future() if self.event == DRAINED else self.endpoint.close_future()
            self.waits = iter(()) if future is None else future.__await__()
        return next(self.waits)

    def throw(self, kind, value=None, traceback=None):
        """Give up waiting and raise what is thrown."""
        if self.waits is not None and hasattr(self.waits, "throw"):
            return self.waits.throw(thrown(kind, value, traceback))
        raise thrown(kind, value, traceback)

    def close(self):
        """Give up waiting."""
        self.waits = iter(())


cdef object waiting(Endpoint endpoint, Event event):
    cdef Waiting self = Waiting.__new__(Waiting)
    self.endpoint = endpoint
    self.event = event
    return self


@cython.final
cdef class Pinged(Awaitable):
    """What `ping` returns: `await` it for a future, and that for the latency in seconds."""

    def send(self, value):
        """Return the future, as a coroutine returns."""
        if len(self.ping) == 3:
            future = self.endpoint.carrier.loop.create_future()
            if self.ping[2] is not None:
                future.set_result(self.ping[2])
            elif self.endpoint.phase >= LINGERING:
                raise self.endpoint.closed_error()
            self.ping.append(future)
        raise StopIteration(self.ping[3])


cdef object pinged(Endpoint endpoint, list ping):
    cdef Pinged self = Pinged.__new__(Pinged)
    self.endpoint = endpoint
    self.ping = ping
    return self


set_await_slots(<PyTypeObject *>Ready, fastws_ready_next, fastws_ready_send)
