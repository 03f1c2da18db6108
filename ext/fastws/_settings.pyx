"""What the connections of one server have in common: limits, times, counts, the handler.

In: the arguments of `fastws.serve` and `fastws.connect`, which were judged there. Out: the same
as C values, for connections to read without asking Python.
"""

from libc.stdint cimport uint64_t


cdef class Callbacks:
    """
    What a handler is, looked up once.

    Args:
        functions: by name; absent ones are never called. Either "main" alone, a coroutine
            function that is given the connection, or the callbacks of `Handler`.
        bound: the functions take the handler as their first argument.
    """

    def __init__(self, dict functions, bint bound):
        self.main = functions.get("main")
        self.on_open = functions.get("on_open")
        self.on_message = functions.get("on_message")
        self.on_close = functions.get("on_close")
        self.on_ping = functions.get("on_ping")
        self.on_pong = functions.get("on_pong")
        self.on_drain = functions.get("on_drain")
        self.on_error = functions.get("on_error")
        self.bound = bound


cdef double seconds(value):
    return -1.0 if value is None else value


cdef class Settings:
    """
    What all connections of one server share.

    Args: times in seconds and sizes in bytes, None switching a limit off; see `fastws.serve`.
    """

    def __init__(self, *, server, policy, make_handler, negotiate, logger, max_size, max_queue, text_as,
                 write_limit, write_cap, open_timeout, ping_interval, ping_timeout, close_timeout,
                 max_connections, max_opening, on_idle, topics=None, ssl=None, proxies=None):
        self.server = server
        self.topics = topics
        self.ssl = ssl
        self.proxies = proxies
        self.policy = policy
        self.make_handler = make_handler
        self.negotiate = negotiate
        self.logger = logger
        self.max_size = <uint64_t>-1 if max_size is None else max_size
        high, low = max_queue if isinstance(max_queue, tuple) else (max_queue, None)
        self.high_water = 0xFFFFFFFF if high is None else high
        self.low_water = self.high_water // 4 if low is None else low
        self.text_as_bytes = text_as == "bytes"
        self.write_limit = <size_t>-1 if write_limit is None else write_limit
        self.write_cap = <size_t>-1 if write_cap is None else write_cap
        self.open_timeout = seconds(open_timeout)
        self.ping_interval = seconds(ping_interval)
        self.ping_timeout = seconds(ping_timeout)
        self.close_timeout = seconds(close_timeout)
        self.max_connections = max_connections
        self.max_opening = max_opening
        self.on_idle = on_idle
        self.tasks = set()

    @property
    def max_size(self):
        """Bytes of a message; None: no limit."""
        return None if self.max_size == <uint64_t>-1 else self.max_size

    @property
    def open_timeout(self):
        """Seconds for the opening handshake; None: no limit."""
        return None if self.open_timeout < 0 else self.open_timeout

    @property
    def max_connections(self):
        """How many connections may be open."""
        return self.max_connections
