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
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastws._connection cimport Connection
from fastws._endpoint cimport DUE_LINGER, DUE_OPENING, GONE, LINGERING, OPENING, RUNNING, Endpoint
from fastws._outbox cimport iovec, outbox_free, outbox_place_pong, outbox_sent, outbox_settle, outbox_vectors
from fastws._settings cimport Settings
from fastws._slots cimport Slots, clock_ns

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
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    uint32_t EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
    int SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, SHUT_WR
    int close(int) nogil
    int shutdown(int, int) nogil
    ssize_t recv(int, void *, size_t, int) nogil
    ssize_t send(int, const void *, size_t, int) nogil
    cdef struct sockaddr:
        pass
    ctypedef unsigned socklen_t
    cdef struct sockaddr_storage:
        unsigned short ss_family
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int, const msghdr *, int) nogil
    int accept4(int, sockaddr *, socklen_t *, int) nogil
    int getsockname(int, sockaddr *, socklen_t *) nogil
    int getpeername(int, sockaddr *, socklen_t *) nogil
    int AF_INET, AF_INET6

cdef enum:
    LISTENER = 0x80000000        # in an event's low half: the rest is a listener's index
    ACCEPTS_PER_TURN = 64
    # How long a listener rests after the system had no descriptor or memory for it.
    ACCEPT_PAUSE_MS = 100
    # How long one turn may send, after its reads.
    FLUSH_BUDGET_NS = 1000000
    SENDS_PER_LOOK = 16          # at the clock

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
cdef class Reactor(Slots):
    """The sockets of one event loop's connections."""

    def __cinit__(self):
        self.epoll = -1
        self.dirty = NULL
        self.scratch = NULL

    def __init__(self, loop):
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.listeners = []
        self.lost = []
        self.scratch = <uint8_t *>PyMem_Malloc(SCRATCH_SIZE)
        if self.scratch == NULL:
            raise MemoryError
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))
        loop.add_reader(self.epoll, self.poll)

    def __dealloc__(self):
        # The loop was closed and everything let go: nobody is left to tell.
        if self.epoll >= 0:
            close(self.epoll)
        PyMem_Free(self.dirty)
        PyMem_Free(self.scratch)

    # ------------------------------------------------------------------ servers

    def hold(self):
        """Count a user; each calls `release` once."""
        self.users += 1

    def release(self):
        """Give up a use; the last one, with no connection left, ends the reactor."""
        self.users -= 1
        self.end_if_unused()

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

    def later(self):
        """Run what was left for, or asked of, the loop's next pass."""
        self.pass_scheduled = False
        if self.closed:
            return
        self.update_clock()
        self.in_turn = True
        try:
            self.end_turn()
        finally:
            self.in_turn = False
        self.raise_pending()

    def raise_pending(self):
        """Internal."""
        error = self.pending_error
        if error is not None:
            self.pending_error = None
            raise error

    cdef int raise_later(self, error) except -1:
        if self.pending_error is None:
            self.pending_error = error
        return self.need_pass()

    cdef int need_pass(self) except -1:
        if not self.pass_scheduled and not self.in_turn and not self.loop.is_closed():
            self.pass_scheduled = True
            self.loop.call_soon(self.later)
        return 0

    cdef int end_turn(self) except -1:
        self.tell_lost()
        self.flush_dirty()
        if self.lost:
            self.tell_lost()
        if self.dirty_start < self.dirty_end or self.lost:
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
        cdef uint32_t ready = event.events
        cdef Endpoint connection
        if slot & LISTENER:
            listener = self.listeners[slot & ~LISTENER]
            if listener is not None:
                self.accept(<Listener>listener)
            return 0
        if self.closed or self.generations[slot] != <uint32_t>(event.data.u64 >> 32):
            return 0
        connection = <Endpoint>self.connections[slot]
        if ready & EPOLLIN:
            if connection.held:
                # Taken away only now: most handlers are done before more arrives.
                self.set_interest(connection, connection.interest & ~EPOLLIN)
                if ready & (EPOLLERR | EPOLLHUP):
                    return self.drop(connection)
            elif connection.rest != NULL:
                # It comes before anything that is received now.
                self.resume_now(connection)
            else:
                self.read(connection)
        elif ready & (EPOLLERR | EPOLLHUP):
            # These cannot be masked, and would spin.
            return self.drop(connection)
        if ready & EPOLLOUT and connection.fd >= 0:
            self.send_some(connection)
        return 0

    @cython.nonecheck(False)
    cdef int read(self, Endpoint connection) except -1:
        cdef size_t room = 0
        cdef uint8_t *target = NULL
        cdef ssize_t size
        cdef bint direct = False
        if connection.phase == RUNNING and connection.in_frame:
            try:
                target = connection.direct_buffer(&room)
            except MemoryError as error:
                connection.crashed(error, None)
                connection.after_input()
                return 0
        if target == NULL:
            target = self.scratch
            room = SCRATCH_SIZE
        else:
            direct = True
        size = recv(connection.fd, target, room, 0)
        if size > 0:
            connection.received_at = self.now
            # Marked as queued for sending, it is not queued again: it is flushed here.
            connection.dirty = True
            try:
                if direct:
                    connection.direct_bytes_received(<size_t>size)
                else:
                    connection.bytes_received(target, size)
                self.deliver(connection)
            finally:
                connection.dirty = False
            self.end_batch(connection)
        elif size == 0:
            connection.end_received()
        elif errno != EAGAIN and errno != EINTR:
            self.drop(connection)
        return 0

    # ------------------------------------------------------------------ output

    cdef int end_batch(self, Endpoint connection) except -1:
        """Send what a batch of input queued for its own connection."""
        if connection.blocked or connection.fd < 0:
            return 0
        return connection.output_left() if connection.outbox == NULL else self.send_some(connection)

    cdef int schedule(self, Endpoint connection) except -1:
        cdef uint32_t *bigger
        if self.dirty_end == self.dirty_room:
            self.dirty_room = 2 * self.dirty_room if self.dirty_room else 256
            bigger = <uint32_t *>PyMem_Realloc(self.dirty, self.dirty_room * sizeof(uint32_t))
            if bigger == NULL:
                raise MemoryError
            self.dirty = bigger
        self.dirty[self.dirty_end] = connection.slot
        self.dirty_end += 1
        connection.dirty = True
        return self.need_pass()

    cdef int flush_dirty(self) except -1:
        """Send what is queued, for about a millisecond; what is left has its turn next time."""
        cdef int64_t end = 0
        cdef Endpoint connection
        cdef int sends = 0
        cdef uint32_t slot
        while self.dirty_start < self.dirty_end:
            slot = self.dirty[self.dirty_start]
            self.dirty_start += 1
            entry = self.connections[slot]
            if entry is None:
                continue
            connection = <Endpoint>entry
            if not connection.dirty:
                continue
            connection.dirty = False
            if connection.outbox == NULL:
                connection.output_left()
            elif not connection.blocked:
                self.send_some(connection)
                sends += 1
                if sends % SENDS_PER_LOOK == 0:
                    if end == 0:
                        end = clock_ns() + FLUSH_BUDGET_NS
                    elif clock_ns() > end:
                        break
        if self.dirty_start == self.dirty_end:
            self.dirty_start = self.dirty_end = 0
        elif 2 * self.dirty_start > self.dirty_room:
            memcpy(self.dirty, self.dirty + self.dirty_start,
                   (self.dirty_end - self.dirty_start) * sizeof(uint32_t))
            self.dirty_end -= self.dirty_start
            self.dirty_start = 0
        return 0

    cdef int flush(self, Endpoint connection) except -1:
        # The caller is a handler: that its output has left is told when it has returned.
        cdef bint over_limit = connection.over_limit
        connection.over_limit = False
        self.send_some(connection)
        connection.over_limit = over_limit
        if over_limit and connection.fd >= 0 and not connection.dirty and not connection.blocked:
            return self.schedule(connection)
        return 0

    @cython.nonecheck(False)
    cdef int send_some(self, Endpoint connection) except -1:
        """Send what waits, as far as the peer takes it; at most a few calls."""
        cdef iovec[MAX_VECTORS] vectors
        cdef msghdr message
        cdef int count, calls
        cdef size_t wanted
        cdef ssize_t size
        cdef bint was_blocked = connection.blocked
        if connection.fd < 0:
            return 0
        if connection.outbox != NULL and connection.outbox.pong_size:
            outbox_place_pong(connection.outbox)
        for calls in range(4):
            if connection.outbox == NULL:
                break
            count = outbox_vectors(connection.outbox, vectors, MAX_VECTORS)
            if count == 1:
                size = send(connection.fd, vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL)
            else:
                memset(&message, 0, sizeof(message))
                message.msg_iov = vectors
                message.msg_iovlen = <size_t>count
                size = sendmsg(connection.fd, &message, MSG_NOSIGNAL)
            if size < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:
                    return self.drop(connection)
                break
            if <size_t>size == connection.outbox.size:
                outbox_free(connection.outbox)
                connection.outbox = NULL
                break
            wanted = 0
            while count:
                count -= 1
                wanted += vectors[count].iov_len
            outbox_sent(connection.outbox, <size_t>size)
            if <size_t>size < wanted:
                break
        if connection.outbox == NULL:
            if was_blocked:
                connection.blocked = False
                self.set_interest(connection, connection.interest & ~EPOLLOUT)
            if connection.phase == LINGERING:
                self.shut(connection)
        elif not was_blocked:
            connection.blocked = True
            outbox_settle(connection.outbox)
            self.set_interest(connection, connection.interest | EPOLLOUT)
        if connection.over_limit:
            connection.output_left()
        return 0

    # ------------------------------------------------------------------ input again

    cdef int deliver(self, Endpoint connection) except -1:
        """A batch was parsed: let a coroutine have it, and then what it has made room for."""
        if connection.receiver is None and connection.rest == NULL:
            return 0
        self.delivering = connection
        try:
            connection.input_done()
            while connection.rest != NULL and not connection.held and connection.phase == RUNNING:
                connection.deliver_rest()
                connection.input_done()
        finally:
            self.delivering = None
        return 0

    cdef int resume(self, Endpoint connection) except -1:
        """Called outside of turns, by tasks that end and by `resume_reading`; and inside."""
        if connection.fd < 0 or self.closed:
            return 0
        if connection.rest != NULL and connection.phase == RUNNING:
            # Not here: the caller may be a handler, whose messages would overtake each other.
            if self.delivering is not connection:
                self.loop.call_soon(self.resume_now, connection)
        elif not connection.interest & EPOLLIN:
            self.set_interest(connection, connection.interest | EPOLLIN)
        return 0

    def resume_now(self, Endpoint connection):
        """Internal: deliver what was received while delivery was held, then receive again."""
        if connection.fd < 0 or self.closed:
            return
        self.update_clock()
        connection.deliver_rest()
        self.deliver(connection)
        if not connection.dirty:
            self.end_batch(connection)
        if connection.fd >= 0 and not connection.held and not connection.interest & EPOLLIN:
            self.set_interest(connection, connection.interest | EPOLLIN)
        if self.lost:
            self.need_pass()
        self.raise_pending()

    cdef int set_interest(self, Endpoint connection, uint32_t interest) except -1:
        cdef epoll_event event
        if interest == connection.interest or connection.fd < 0:
            return 0
        event.events = interest
        event.data.u64 = <uint64_t>self.generations[connection.slot] << 32 | connection.slot
        if epoll_ctl(self.epoll, EPOLL_CTL_MOD, connection.fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        connection.interest = interest
        return 0

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

    def open_client(self, sock, Settings settings, handshake):
        """
        Open a client's connection on a connected socket, which is the reactor's from here on.

        Args:
            handshake: a ClientHandshake.

        Returns: a future for the Connection. When it is cancelled the socket is closed.
        Raises: what the handshake's `receive_data`, `receive_eof` and `check` raise; OSError.
        """
        cdef sockaddr_storage address
        cdef socklen_t size = sizeof(address)
        cdef Connection connection
        if getpeername(sock.fileno(), <sockaddr *>&address, &size) < 0:
            raise OSError(errno, os.strerror(errno))
        if address.ss_family != AF_INET and address.ss_family != AF_INET6:
            size = 0
        sock.setblocking(False)
        connection = self.make(sock.detach(), settings, <uint8_t *>&address, size)
        if connection is None:
            raise OSError(errno, "cannot watch a connection")
        future = self.loop.create_future()
        connection.client = True
        connection.opening = handshake
        connection.more().opened = future
        self.set_deadline(connection, DUE_OPENING, settings.open_timeout)
        future.add_done_callback(connection.opening_done)
        connection.connected()
        return future

    cdef int adopt(self, int fd, Settings settings, uint8_t *address, unsigned address_size) except -1:
        cdef Connection connection = self.make(fd, settings, address, address_size)
        if connection is None:
            return 0
        if settings.open_count >= settings.max_connections or settings.opening_count > settings.max_opening:
            return connection.turn_away()
        return self.set_deadline(connection, DUE_OPENING, settings.open_timeout)

    cdef Connection make(self, int fd, Settings settings, uint8_t *address, unsigned address_size):
        """Make the connection of a descriptor and watch it. None: the descriptor is closed."""
        cdef Connection connection = Connection.__new__(Connection)
        cdef epoll_event event
        cdef uint32_t slot = self.take_slot()
        connection.carrier = self
        connection.settings = settings
        connection.max_size = settings.max_size
        connection.text_as_bytes = settings.text_as_bytes
        connection.fd = fd
        connection.slot = slot
        connection.address_size = <uint8_t>address_size
        memcpy(connection.address, address, min(address_size, 28))
        connection.interest = event.events = EPOLLIN
        event.data.u64 = <uint64_t>self.generations[slot] << 32 | slot
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            self.free_slot(slot)
            settings.logger.error("cannot watch a connection: %s", os.strerror(errno))
            connection.fd = -1
            close(fd)
            return None
        self.connections[slot] = connection
        self.open_count += 1
        settings.opening_count += 1
        return connection

    cdef int close_descriptor(self, Endpoint connection) except -1:
        """Close it, and give back what it holds; the connection is not told."""
        cdef epoll_event event
        if connection.fd < 0:
            return 0
        # A duplicate of the descriptor, in a child say, would stay registered after close().
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, connection.fd, &event)
        close(connection.fd)
        connection.fd = -1
        self.free_slot(connection.slot)
        self.open_count -= 1
        if connection.phase == OPENING:
            connection.settings.opening_count -= 1
        else:
            connection.settings.open_count -= 1
        connection.phase = GONE
        connection.end_compression()
        # What was received with the frame that is being delivered stays undelivered.
        connection.held = True
        connection.dirty = connection.blocked = False
        if connection.outbox != NULL:
            outbox_free(connection.outbox)
            connection.outbox = NULL
        return 0

    cdef int drop(self, Endpoint connection) except -1:
        if connection.fd >= 0:
            self.close_descriptor(connection)
            self.lost.append(connection)
            self.need_pass()
        return 0

    cdef int finish(self, Endpoint connection) except -1:
        if connection.fd < 0:
            return 0
        self.set_deadline(connection, DUE_LINGER, connection.settings.close_timeout)
        if not connection.interest & EPOLLIN:
            self.set_interest(connection, connection.interest | EPOLLIN)
        if connection.outbox == NULL:
            return self.shut(connection)
        if not connection.blocked and not connection.dirty:
            return self.schedule(connection)
        return 0

    cdef int shut(self, Endpoint connection) except -1:
        # Our last bytes are on their way. Closing now, with input unread, would send a RST that
        # may overtake them; the peer closes when it has seen our end, or the deadline does.
        # RFC 6455 7.1.1: a client leaves it to the server to end the TCP connection first.
        if not connection.shut and (not connection.client or connection.failed):
            connection.shut = True
            shutdown(connection.fd, SHUT_WR)
        return 0

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
