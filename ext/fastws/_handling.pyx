"""Handling: handlers, as their connection's events call them, and what becomes of what they return and raise.

In: messages, fragments, Pings and Pongs from the protocol; the beginning and the end from the endpoint. Out: calls of
callbacks, tasks of coroutines, messages in the inbox.
"""

import asyncio
import logging

from fastws.exceptions import ConnectionClosed
from fastws.log import report

cimport cython
from cpython.object cimport PyObject

from fastws._awaitables cimport READY
from fastws._endpoint cimport RUNNING, Endpoint
from fastws._inbox cimport inbox_empty, inbox_put
from fastws._messages cimport known
from fastws._receiving cimport Fragment, is_awaitable_of_ours, wake_receiver
from fastws._sending cimport Sending
from fastws._topics cimport leave_topics

cdef extern from "Python.h":
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyObject_Vectorcall(object function, PyObject **args, size_t count, PyObject *names)
    bint PyCoro_CheckExact(object)

cdef enum:
    NORMAL = 1000
    GOING_AWAY = 1001


cdef class Handling(Sending):
    """What a connection does with its handler; see `Connection`."""

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
            if self.leaving:
                self.leave_if_idle()
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
