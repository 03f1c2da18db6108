"""
TLS contexts: what `ssl.SSLContext` the two sides use where none is given, and which ones they take.

In: files with a certificate and its key. Out: contexts of the standard library's.
"""

from __future__ import annotations

import functools
import os
import ssl

__all__ = ["client_context", "server_context"]

# RFC 7301; of HTTP's versions it is 1.1 that RFC 6455 is an upgrade of.
ALPN = ["http/1.1"]


def server_context(
    certfile: str | os.PathLike[str], keyfile: str | os.PathLike[str] | None = None
) -> ssl.SSLContext:
    """
    Return a context for a server: TLS 1.2 and newer, no renegotiation, and http/1.1 in answer to ALPN.

    Args:
        certfile: PEM, the server's certificate first, and after it those between it and the root.
        keyfile: PEM, not encrypted; None: it is in certfile.

    Raises: OSError for files that cannot be read; ssl.SSLError for what is in them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # OpenSSL 1.1.1 lets clients begin it, and each costs a handshake.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN)
    files = str(certfile) if keyfile is None else f"{certfile} and {keyfile}"
    try:
        # Without a password OpenSSL would ask for that of an encrypted key at the terminal.
        context.load_cert_chain(certfile, keyfile, password=no_password)
    except ssl.SSLError as error:
        raise ssl.SSLError(error.errno, f"no certificate with its key in {files}: {error}") from error
    except OSError as error:
        raise OSError(error.errno, f"cannot read {files}: {error.strerror}") from error
    return context


def no_password() -> str:
    raise ValueError("the key is encrypted, and there is no password for it")


def client_context() -> ssl.SSLContext:
    """Return the context for wss without one: the system's certificates, host names checked, http/1.1."""
    return default_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(maxsize=4)
def default_context(_file: str | None, _directory: str | None) -> ssl.SSLContext:
    # Kept: reading all of the system's certificates takes some ten milliseconds, and a megabyte.
    context = ssl.create_default_context()
    context.set_alpn_protocols(ALPN)
    return context


def check_server_context(context: ssl.SSLContext) -> None:
    """Raise TypeError or ssl.SSLError for what is no context for a server."""
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"ssl is {context!r}, expected an ssl.SSLContext")
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
