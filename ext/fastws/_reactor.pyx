"""The reactor: sockets and turns, on an epoll instance nested in an event loop.

In: readiness, from the loop. Out: bytes for connections, and their outboxes to sockets.

The loop watches one descriptor, our epoll instance, and calls `poll` when anything in it is
ready. A turn is: take the ready descriptors, read each once and let its connection parse and
answer (a batch), send what that queued with one call; then send what batches queued for other
connections. Everything is bounded, and level-triggered, so that what a turn leaves is found by
the next, after the loop has run its tasks and timers.
"""

import os
import socket
import weakref

cimport cython
from libc.errno cimport EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastws._connection cimport Connection
from fastws._endpoint cimport DUE_OPENING, GONE, Endpoint
from fastws._reading cimport Reading
from fastws._settings cimport Settings
from fastws._tls cimport Tls

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

cdef extern from *:
    """
    #include <malloc.h>
    #include <netinet/in.h>
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <unistd.h>
    static inline void fastws_keep_heap(void)
    {
    #ifdef __GLIBC__
        mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
        mallopt(M_TRIM_THRESHOLD, 16 * 1024 * 1024);
    #endif
    }
    """
    void fastws_keep_heap() noexcept nogil
    int epoll_create1(int) nogil
    int epoll_ctl(int, int, int, epoll_event *) nogil
    int epoll_wait(int, epoll_event *, int, int) nogil
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL
    uint32_t EPOLLIN
    int SOCK_NONBLOCK, SOCK_CLOEXEC
    int close(int) nogil
    cdef struct sockaddr:
        pass
    ctypedef unsigned socklen_t
    cdef struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int, sockaddr *, socklen_t *, int) nogil
    int getsockname(int, sockaddr *, socklen_t *) nogil
    int getpeername(int, sockaddr *, socklen_t *) nogil
    int AF_INET, AF_INET6

cdef enum:
    LISTENER = 0x80000000        # in an event's low half: the rest is a listener's index
    ACCEPTS_PER_TURN = 64
    # How long a listener rests after the system had no descriptor or memory for it.
    ACCEPT_PAUSE_MS = 100

# Else glibc gives the memory of every large message back to the system, and the next one pays for
# it page by page (docs/decisions/0001-keep-the-heap.md). At most 16 MiB stay with the process.
if os.environ.get("FASTWS_KEEP_HEAP", "1") != "0":
    fastws_keep_heap()

# By id of the loop; a reactor is kept alive by what uses it.
cdef dict reactors = {}


def reactor_of(loop):
    """Return the reactor of `loop`, made when first asked for."""
    reference = reactors.get(id(loop))
    cdef Reactor reactor = None if reference is None else reference()
    if reactor is None or reactor.closed or reactor.loop is not loop:
        reactor = Reactor(loop)
        reactors[id(loop)] = weakref.ref(reactor)
    return reactor


def forget_after_fork():
    # A child shares the parent's epoll instances: closing its own descriptors is all that it
    # may do, EPOLL_CTL_DEL would take the parent's connections away.
    cdef Reactor reactor
    for reference in reactors.values():
        reactor = reference()
        if reactor is not None:
            reactor.forget()
    reactors.clear()


os.register_at_fork(after_in_child=forget_after_fork)


@cython.final
cdef class Listener:
    """A listening socket in a reactor."""


@cython.final
cdef class Reactor(Reading):
    """The sockets of one event loop's connections."""

    def __init__(self, loop):
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.listeners = []
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))
        loop.add_reader(self.epoll, self.poll)

    # ------------------------------------------------------------------ servers

    def end_if_unused(self):
        """Internal."""
        if self.users == 0 and self.open_count == 0 and not self.lost and not self.closed:
            self.close()

    def close(self):
        """Close every descriptor, and the reactor. Connections are told nothing."""
        cdef Endpoint connection
        cdef Listener listener
        if self.closed:
            return
        self.closed = True
        if not self.loop.is_closed():
            # Before the descriptor closes: its number may be used again at once.
            self.loop.remove_reader(self.epoll)
            self.stop_timer()
        self.timer = self.context_timer = None
        for listener in self.listeners:
            if listener is not None:
                self.remove_listener(listener)
        for connection in list(self.connections):
            if connection is not None:
                self.close_descriptor(connection)
        self.lost.clear()
        close(self.epoll)
        self.epoll = -1
        reactors.pop(id(self.loop), None)

    def forget(self):
        """Internal: we are a forked child. Let go of everything and touch nothing of the parent's."""
        cdef Endpoint connection
        self.closed = True
        self.timer = self.context_timer = None
        for connection in self.connections:
            if connection is not None and connection.fd >= 0:
                close(connection.fd)
                connection.fd = -1
                connection.phase = GONE
        # Of the same length: the child may be inside a turn.
        self.connections = [None] * len(self.connections)
        for listener in self.listeners:
            if listener is not None:
                (<Listener>listener).fd = -1
        self.listeners = [None] * len(self.listeners)
        if self.epoll >= 0:
            close(self.epoll)
            self.epoll = -1

    def listen(self, sock, Settings settings):
        """
        Accept connections from `sock`, a listening socket, which stays the caller's.

        Returns: a Listener, for `remove_listener`.
        """
        cdef Listener listener = Listener()
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # Accepted sockets inherit it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.sock = sock
        listener.settings = settings
        listener.fd = sock.fileno()
        listener.index = <uint32_t>len(self.listeners)
        self.listeners.append(listener)
        self.arm(listener)
        return listener

    def arm(self, Listener listener):
        """Internal: accept again."""
        cdef epoll_event event
        if listener.armed or listener.fd < 0 or self.closed:
            return
        event.events = EPOLLIN
        event.data.u64 = LISTENER | listener.index
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, listener.fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        listener.armed = True

    cdef int disarm(self, Listener listener) except -1:
        cdef epoll_event event
        if listener.armed:
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, listener.fd, &event)
            listener.armed = False
        return 0

    def remove_listener(self, Listener listener):
        """Stop accepting from a listener's socket."""
        if listener.fd >= 0:
            self.disarm(listener)
            listener.fd = -1
            self.listeners[listener.index] = None

    # ------------------------------------------------------------------ turns

    def poll(self):
        """Run a turn: the loop calls it when a descriptor of ours is ready."""
        cdef int i, count
        if self.closed:
            return
        self.update_clock()
        self.in_turn = True
        try:
            count = epoll_wait(self.epoll, self.events, MAX_EVENTS, 0)
            for i in range(count):
                self.handle(&self.events[i])
            self.end_turn()
        finally:
            self.in_turn = False
        self.raise_pending()

    cdef int end_turn(self) except -1:
        self.tell_lost()
        self.flush_dirty()
        self.shake_more()
        if self.lost:
            self.tell_lost()
        if self.dirty_start < self.dirty_end or self.lost or self.shaking:
            self.in_turn = False
            self.need_pass()
        return 0

    cdef int tell_lost(self) except -1:
        cdef Endpoint connection
        cdef list lost = self.lost
        if not lost:
            return 0
        self.lost = []
        for connection in lost:
            connection.lost()
        self.end_if_unused()
        return 0

    @cython.nonecheck(False)
    cdef int handle(self, epoll_event *event) except -1:
        cdef uint32_t slot = <uint32_t>event.data.u64
        if slot & LISTENER:
            listener = self.listeners[slot & ~LISTENER]
            if listener is not None:
                self.accept(<Listener>listener)
            return 0
        if self.closed or self.generations[slot] != <uint32_t>(event.data.u64 >> 32):
            return 0
        return self.ready(<Endpoint>self.connections[slot], event.events)

    # ------------------------------------------------------------------ life of a descriptor

    cdef int accept(self, Listener listener) except -1:
        cdef sockaddr_storage address
        cdef socklen_t size
        cdef int fd, i
        for i in range(ACCEPTS_PER_TURN):
            if listener.fd < 0:
                return 0
            size = sizeof(address)
            fd = accept4(listener.fd, <sockaddr *>&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                if address.ss_family != AF_INET and address.ss_family != AF_INET6:
                    size = 0
                try:
                    self.adopt(fd, listener.settings, <uint8_t *>&address, size)
                except MemoryError:
                    close(fd)
                    raise
            elif errno == EAGAIN:
                return 0
            elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                # Level-triggered, it would be ready for ever: let it rest.
                listener.settings.logger.error(
                    "cannot accept connections for the moment: %s", os.strerror(errno))
                self.disarm(listener)
                self.loop.call_later(ACCEPT_PAUSE_MS / 1000.0, self.arm, listener)
                return 0
            # Else the connection, not the listener, failed: ECONNABORTED and its like.
        return 0

    def open_client(self, sock, Settings settings, handshake, server_hostname=None):
        """
        Open a client's connection on a connected socket, which is the reactor's from here on.

        Args:
            handshake: a ClientHandshake.
            server_hostname: whose certificate it has to be, with TLS.

        Returns: a future for the Connection. When it is cancelled the socket is closed.
        Raises: what the handshake's `receive_data`, `receive_eof` and `check` raise; OSError; ValueError.
        """
        cdef sockaddr_storage address
        cdef socklen_t size = sizeof(address)
        cdef Connection connection
        cdef Tls tls = None
        if settings.ssl is not None:
            tls = Tls(settings.ssl, False, server_hostname)
            try:
                tls.begin()
            except BaseException:
                self.end_if_unused()
                raise
        if getpeername(sock.fileno(), <sockaddr *>&address, &size) < 0:
            raise OSError(errno, os.strerror(errno))
        if address.ss_family != AF_INET and address.ss_family != AF_INET6:
            size = 0
        sock.setblocking(False)
        connection = self.make(sock.detach(), settings, <uint8_t *>&address, size)
        if connection is None:
            raise OSError(errno, "cannot watch a connection")
        future = self.loop.create_future()
        connection.begin_as_client(handshake, future)
        if tls is None:
            connection.connected()
        else:
            connection.tls = tls
            self.shake_with(connection, tls, NULL, 0)
        return future

    cdef int adopt(self, int fd, Settings settings, uint8_t *address, unsigned address_size) except -1:
        cdef Connection connection = self.make(fd, settings, address, address_size)
        if connection is None:
            return 0
        if self.is_full(settings):
            return connection.turn_away()
        if settings.ssl is not None or settings.proxies is not None:
            connection.tls = self.tls_of(settings, connection)
        return self.set_deadline(connection, DUE_OPENING, settings.open_timeout)

    cdef Connection make(self, int fd, Settings settings, uint8_t *address, unsigned address_size):
        """Make the connection of a descriptor and watch it. None: the descriptor is closed."""
        cdef Connection connection = Connection.__new__(Connection)
        cdef epoll_event event
        self.let_in(connection, settings, fd)
        connection.address_size = <uint8_t>address_size
        memcpy(connection.address, address, min(address_size, 28))
        connection.interest = event.events = EPOLLIN
        event.data.u64 = <uint64_t>self.generations[connection.slot] << 32 | connection.slot
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            settings.logger.error("cannot watch a connection: %s", os.strerror(errno))
            self.let_go(connection)
            close(fd)
            return None
        return connection

    cdef object address_of(self, Endpoint connection, bint peer):
        cdef sockaddr_storage storage
        cdef socklen_t size = sizeof(storage)
        cdef uint8_t *address = connection.address
        if not peer:
            if connection.fd < 0 or getsockname(connection.fd, <sockaddr *>&storage, &size) < 0:
                return None
            if storage.ss_family != AF_INET and storage.ss_family != AF_INET6:
                return (<char *>&storage)[2:size].rstrip(b"\0").decode("utf-8", "surrogateescape")
            address = <uint8_t *>&storage
        elif connection.address_size == 0:
            return ""
        return parse_address(address)

cdef object parse_address(const uint8_t *address):
    cdef unsigned short family
    cdef uint32_t scope
    cdef unsigned port = address[2] << 8 | address[3]
    memcpy(&family, address, sizeof(family))
    if family == AF_INET:
        return socket.inet_ntop(socket.AF_INET, address[4:8]), int(port)
    memcpy(&scope, address + 24, sizeof(scope))
    return socket.inet_ntop(socket.AF_INET6, address[8:24]), int(port), int.from_bytes(address[4:8], "big"), int(scope)
