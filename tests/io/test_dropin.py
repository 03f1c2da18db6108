"""Programs for `websockets`, in `dropin`, say the same with fastws on either side, and on both."""

import logging

import pytest
import websockets
from dropin import Log, closing, messages, opening, tasks
from websockets.version import version

import fastws

pytestmark = [
    pytest.mark.usefixtures("no_proxies"),
    pytest.mark.without_tls("what is compared does not depend on it"),
]

# What these do websockets does only since its version 17, which needs Python 3.11.
SINCE_17 = {
    closing.a_body_that_raises,
    closing.a_server_that_serves_until_cancelled,
    tasks.a_client_that_gives_up,
    tasks.a_client_that_reconnects,
}
PROGRAMS = [program for module in (messages, opening, closing, tasks) for program in module.PROGRAMS]


@pytest.mark.parametrize(
    ("servers", "clients"),
    [(fastws, fastws), (fastws, websockets), (websockets, fastws)],
    ids=lambda library: library.__name__,
)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_sees_with_fastws_what_it_sees_with_websockets(run, caplog, program, servers, clients):
    if program in SINCE_17 and int(version.split(".")[0]) < 17:
        pytest.skip(f"websockets {version} is another than the program is for")
    # Some of them fail on purpose, and both libraries log it.
    caplog.set_level(logging.CRITICAL)
    seen, expected = Log(), Log()

    async def main():
        await program(websockets, websockets, expected)
        await program(servers, clients, seen)

    run(main)
    assert expected
    assert seen == expected


def test_every_program_is_run():
    for module in (messages, opening, closing, tasks):
        defined = {
            value
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__
            and value.__code__.co_varnames[:3] == ("servers", "clients", "log")
        }
        assert defined == set(module.PROGRAMS)
