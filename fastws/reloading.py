"""
Reloading: a process that watches source files, and says when they change.

In: folders. Out: a line, "changed" and a path, for each change or burst of changes.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Sequence
from typing import Any

Folders = bool | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def check_reload(reload: Folders, handler: object) -> list[str] | None:
    """
    Return the folders to watch; None for none.

    Raises: ValueError where nothing would be read anew, or a folder is none; RuntimeError without watchfiles.
    """
    if reload is False:
        return None
    if not isinstance(handler, str):
        raise ValueError('reload needs the name of a handler, "module:name": an object stays what it is')
    if importlib.util.find_spec("watchfiles") is None:
        raise RuntimeError("reload needs watchfiles: pip install 'fastws[reload]'")
    if reload is True:
        return [os.getcwd()]
    paths: list[Any] = [reload] if isinstance(reload, (str, os.PathLike)) else list(reload)
    for path in paths:
        if not os.path.isdir(path):
            raise ValueError(f"reload has {os.fspath(path)!r}, which is no folder")
    return [os.fspath(path) for path in paths]


def watch(folders: Sequence[str], line: socket.socket) -> None:
    """Watch until the other end of `line` closes. In a process of its own: watchfiles has threads."""
    import watchfiles

    for changes in watchfiles.watch(
        *folders,
        watch_filter=watchfiles.PythonFilter(),
        raise_interrupt=False,
        yield_on_timeout=True,
        rust_timeout=1000,
    ):
        try:
            if changes:
                line.send(f"changed: {min(path for _, path in changes)}\n".encode())
            elif is_closed(line):
                return
        except OSError:
            return


def is_closed(line: socket.socket) -> bool:
    try:
        return line.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
