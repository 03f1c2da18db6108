"""HTTP Basic authentication of the opening handshake, RFC 7617.

In: who may connect. Out: a `process_request` for `serve`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastws.headers import Headers
from fastws.http11 import Response, rejection

if TYPE_CHECKING:
    from fastws._connection import Connection
    from fastws.http11 import Request

Credentials = tuple[str, str]
Check = Callable[[str, str], bool | Awaitable[bool]]


def basic_auth(
    realm: str = "",
    credentials: Credentials | Iterable[Credentials] | None = None,
    check_credentials: Check | None = None,
) -> Callable[[Connection, Request], Awaitable[Response | None]]:
    """
    Return a `process_request` that asks for a user name and a password.

    Who passes is `ws.username`. Without TLS both travel in clear.

    Args:
        realm: what the user is told that the password is for.
        credentials: a pair (user name, password), or several; compared in constant time.
        check_credentials: called with user name and password instead; returns a bool, and may be
            `async def`.

    Raises: TypeError when neither or both of the last two are given, ValueError for a realm that
        cannot be sent.
    """
    if not realm.isascii() or not realm.isprintable():
        raise ValueError(f"realm is {realm!r}, allowed is printable ASCII")
    if (credentials is None) == (check_credentials is None):
        raise TypeError("give one of credentials and check_credentials")
    check: Check | None = check_credentials
    if credentials is not None:
        check = checker(credentials)
    assert check is not None
    quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
    challenge = f'Basic realm="{quoted}", charset="UTF-8"'

    async def process_request(connection: Connection, request: Request) -> Response | None:
        username, password = parse(request.headers)
        allowed: Any = False
        if username is not None and password is not None:
            allowed = check(username, password)
            if inspect.isawaitable(allowed):
                allowed = await allowed
        if not allowed:
            return rejection(401, "This needs a user name and a password.", [("WWW-Authenticate", challenge)])
        connection.username = username
        return None

    return process_request


def checker(credentials: Credentials | Iterable[Credentials]) -> Check:
    pairs: list[Any] = list(credentials)
    if len(pairs) == 2 and all(isinstance(item, str) for item in pairs):
        pairs = [tuple(pairs)]
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(item, str) for item in pair)):
            raise TypeError(
                "credentials are pairs (user name, password) of str, one of them is a "
                f"{type(pair).__name__} that is none"
            )
    known = [(name.encode(), password.encode()) for name, password in pairs]

    def check(username: str, password: str) -> bool:
        # As long for a wrong name as for a wrong password, and for the first pair as for the last.
        found = False
        for name, secret in known:
            same = hmac.compare_digest(name, username.encode())
            found |= same & hmac.compare_digest(secret, password.encode())
        return found

    return check


def parse(headers: Headers) -> tuple[str | None, str | None]:
    """Return user name and password of the Authorization field; None and None without valid ones."""
    values = headers.get_all("Authorization")
    if len(values) != 1:
        return None, None
    scheme, _, value = values[0].partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        text = base64.b64decode(value.strip(" "), validate=True).decode()
    except (binascii.Error, ValueError):
        return None, None
    username, colon, password = text.partition(":")
    return (username, password) if colon else (None, None)
