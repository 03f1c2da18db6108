"""What the load generator refuses to begin."""

import sys

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the load generator is on epoll", allow_module_level=True)

from fastws._load import Load, LoadError


def made(address="127.0.0.1", port=9, **plan):
    return Load(address=address, port=port, authority="localhost", **plan)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"mode": "flood"}, "mode is 'flood', allowed is echo, fanout, storm, idle"),
        ({"kind": "html"}, "kind is 'html', allowed is binary, text, utf8, ticker"),
        ({"expected": "none"}, "expected is 'none', allowed is echo, any"),
        ({"connections": 0}, "connections is 0, allowed is 1 to 1000000"),
        ({"connections": 1_000_000}, "connections is 1000000, limit is .* in one process"),
        ({"in_flight": 0}, "in_flight is 0, allowed is 1 to"),
        ({"rate": 0.0}, "rate is 0.0, allowed is"),
        ({"rate": float("nan")}, "rate is nan, allowed is"),
        ({"rate": 5.0, "mode": "storm"}, "rate is 5.0, allowed is None with mode 'storm'"),
        ({"sizes": []}, "the count of sizes is 0, allowed is 1 to"),
        ({"sizes": [(-1, 1)]}, "sizes is -1, allowed is 0 to"),
        ({"sizes": [(64, 0)]}, "weight is 0, allowed is"),
        ({"kind": "ticker"}, "sizes with kind 'ticker' is 64, allowed is 128 to"),
        ({"fragments": 0}, "fragments is 0, allowed is 1 to"),
        ({"stuck": 1}, "stuck is 1, allowed is 0 to 0"),
        ({"stuck": 3, "mode": "fanout", "connections": 3}, "stuck is 3, allowed is 0 to 2"),
        ({"sources": 2, "address": "::1"}, "sources is 2, allowed is 1 where the target is not in 127"),
        ({"address": "localhost"}, "address is localhost, expected a numeric"),
        ({"port": 70_000}, "port is 70000, allowed is 1 to 65535"),
        ({"path": "chat"}, "path is 'chat', allowed is what begins with /"),
        ({"path": "/a b"}, "path is '/a b', allowed is one line without spaces"),
        ({"headers": [("X", "a\r\nY: b")]}, "headers is 'a.*b', allowed is one line"),
        ({"headers": [("Host", "x")]}, "headers has host, which the opening handshake sets"),
        ({"headers": [("", "x")]}, "headers has the name '', allowed is an HTTP field name"),
        ({"server_no_context": True}, "server_no_context is True, allowed with deflate alone"),
        ({"unix": "x" * 200, "address": ""}, "unix is a path of 200 bytes, limit is 107"),
        ({"timeout": 0}, "timeout is 0, allowed is"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(plan, message):
    with pytest.raises(LoadError, match=message):
        made(**plan)
