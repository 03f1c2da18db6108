import socket

import pytest
from hypothesis import settings

# A deadline for each example would measure the machine.
settings.register_profile("core", deadline=None)
settings.load_profile("core")


class NoSocket:
    def __new__(cls, *_, **__):
        raise AssertionError("a test in tests/core opens no socket")


@pytest.fixture(autouse=True, scope="module")
def no_sockets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", NoSocket)
        patch.setattr(socket, "socketpair", NoSocket)
        yield
