"""ASGI: a connection as an application of that interface sees it, on a transport of somebody else's.

In: an application's events, and the messages of a connection. Out: frames, and events for the
application: dicts with the keys that ASGI's websocket messages have. What comes once in a
connection's life, accepting and closing, is for `other_event`, which a subclass has.
"""

from fastws.exceptions import ConnectionClosed

from cpython.object cimport PyObject

from fastws._awaitables cimport READY, failing
from fastws._connection cimport Connection
from fastws._endpoint cimport DUE_CLOSING, DUE_LINGER, LINGERING, RUNNING
from fastws._inbox cimport inbox_put
from fastws._messages cimport Payload, encode_message
from fastws._receiving cimport TAKE_EVENT, receiving, wake_receiver
from fastws._streams cimport Link

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()


def link_of(Connection connection not None):
    """Return the `Link` that a connection has."""
    return connection.extras.link


cdef class Exchange(Link):
    """
    A connection's end of a transport, whose messages an ASGI application takes and sends.

    Attributes:
        accepted: the application has accepted the connection, and not closed it.
    """

    def __init__(self, carrier, settings, disconnected):
        Link.__init__(self, carrier, settings)
        self.disconnected = disconnected

    def connection_made(self, transport):
        """Internal: asyncio's."""
        Link.connection_made(self, transport)
        self.ws = self.connection

    def forget(self):
        """Let go of the connection, when it is lost and the application has ended: it has this one, too."""
        self.accepted = False
        self.ws = None

    def receive(self):
        """
        ASGI's `receive`: an awaitable, which is a coroutine too, that gives the next event.

        Cancelling the wait loses none. After the end it gives that again and again.
        """
        if self.ws is None:
            return failing(self.disconnected())
        return receiving(self.ws, TAKE_EVENT)

    def send(self, event):
        """
        ASGI's `send`: an awaitable, which is a coroutine too. A message is queued at once.

        Raises, from `await`: OSError when the peer has left; RuntimeError for an event out of turn;
            TypeError and UnicodeError for what is no message.
        """
        try:
            return self.sent(event)
        except Exception as error:
            return failing(error)

    cdef object sent(self, event):
        cdef Connection connection = self.ws
        cdef Payload payload
        cdef object owner, message, waits
        if not self.accepted or event["type"] != "websocket.send":
            return self.other_event(event)
        if PyThread_get_thread_ident() != self.carrier.thread:
            connection.check_thread()
        message = event.get("bytes")
        if message is None:
            message = event.get("text")
            if message is None:
                raise RuntimeError("ASGI message 'websocket.send' has neither 'bytes' nor 'text'.")
            owner = encode_message(message, True, &payload)
        else:
            owner = encode_message(message, False, &payload)
        if connection.phase != RUNNING or connection.close_queued:
            raise self.disconnected()
        connection.send_message(&payload, <PyObject *>owner, None)
        waits = connection.after_send()
        return READY if waits is READY else self.drained(waits)

    async def drained(self, waits):
        """Internal: wait until the peer has taken enough."""
        try:
            await waits
        except ConnectionClosed:
            raise self.disconnected() from None

    def put(self, dict event not None):
        """Have `receive` give an event of its own, behind what came before."""
        inbox_put(&self.ws.inbox, event)
        self.wake()

    def wake(self):
        """Let whoever waits in `receive` look again, soon."""
        if self.ws is not None:
            wake_receiver(self.ws, False)

    def decide(self, response):
        """Answer the opening handshake. Raises: ValueError for a response that cannot be sent."""
        self.ws.decided(response)
        if self.ws.phase >= LINGERING:
            self.wake()

    def end(self, code, str reason not None):
        """Begin the closing handshake. Raises: ValueError for what must not be sent."""
        self.ws.close(code, reason)
        self.wake()

    def hurry(self, double seconds):
        """Give the peer no more than that to answer what was said last, and to leave."""
        cdef Connection connection = self.ws
        if connection.phase == RUNNING and connection.close_queued:
            self.carrier.set_deadline(connection, DUE_CLOSING, seconds)
        elif connection.phase == LINGERING:
            self.carrier.set_deadline(connection, DUE_LINGER, seconds)
