"""
Forking: processes that do one thing and end, and what their parent hears of them.

In: a function. Out: a process that runs it and nothing else, and a socket to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

# What a parent of ours handles: held back while there are two of it.
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)


def fork(function: Callable[[socket.socket], object], not_its: Iterable[Any]) -> tuple[int, socket.socket]:
    """
    Run `function` in a forked process, with one end of a pair of sockets.

    It ends with status 0 when the function returns, with that of a SystemExit, and with 1 for other
    exceptions, whose traceback it prints. Nothing of the parent's, no `finally` and no exit handler, runs in
    it.

    Args:
        not_its: what has a `close` that lets go of descriptors of the parent's.

    Returns: its process id, and the other end.
    Raises: OSError.
    """
    ours, theirs = socket.socketpair()
    # Else it would come out of both.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        pid = os.fork()
        if pid == 0:
            be_the_child(function, ours, theirs, not_its, before)
    except BaseException:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    ours.setblocking(False)
    return pid, ours


def be_the_child(
    function: Callable[[socket.socket], object],
    ours: socket.socket,
    theirs: socket.socket,
    not_its: Iterable[Any],
    mask: set[signal.Signals | int],
) -> NoReturn:
    status = 1
    try:
        # Its descriptor is the parent's.
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            # A terminal sends those two to everybody; the parent says what is to be done.
            ignored = number in (signal.SIGINT, signal.SIGHUP)
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        ours.close()
        for one in not_its:
            one.close()
        function(theirs)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status)


def describe_end(code: int) -> str:
    """Return in words what `os.waitstatus_to_exitcode` has given."""
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
