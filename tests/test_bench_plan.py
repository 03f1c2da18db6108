"""The load generator's options: what may be asked for, and each process's share of it."""

import socket

import pytest

from fastws.bench.judging import ConditionError, check_condition, parse_condition
from fastws.bench.plan import (
    Plan,
    PlanError,
    check_cores,
    parse_cores,
    parse_header,
    parse_rate,
    parse_size,
    parse_sizes,
)
from fastws.bench.target import Target, TargetError, find, first_open, is_near

TARGET = Target("ws://127.0.0.1:9/", "127.0.0.1", 9, None, "127.0.0.1:9", "/", None)

# ---------------------------------------------------------------- sizes, cores, header fields


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("64", 64), ("1k", 1024), ("1.5K", 1536), ("2M", 2 * 2**20), ("16KiB", 16384), (" 7 B", 7)],
)
def test_a_size_is_a_number_of_bytes_with_a_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "size is ''"),
        ("-1", "size is '-1'"),
        ("1x", "size is '1x'"),
        ("1.5", "no whole number"),
        ("65M", "size is 68157440 bytes, limit is 67108864"),
    ],
)
def test_what_is_no_size_is_refused_with_what_was_seen(text, message):
    with pytest.raises(PlanError, match=message):
        parse_size(text)


def test_a_rate_is_a_number_with_a_unit():
    assert [parse_rate(text) for text in ("500", "0.5", "50k", "1.5M")] == [500, 0.5, 5e4, 1.5e6]
    for text in ("", "0", "-1", "1K", "nan", "inf", "x"):
        with pytest.raises(PlanError, match="rate is"):
            parse_rate(text)


def test_sizes_have_weights_and_are_equally_frequent_without():
    assert parse_sizes("64") == ((64, 1.0),)
    assert parse_sizes("64:0.9,16k:0.1") == ((64, 0.9), (16384, 0.1))
    assert parse_sizes("1,2") == ((1, 1.0), (2, 1.0))


@pytest.mark.parametrize("text", ["64:", "64:x", "64:0", "64:-1", "64:inf", "64:nan", "64:1,64:2", "64,,1"])
def test_what_is_no_distribution_is_refused(text):
    with pytest.raises(PlanError):
        parse_sizes(text)


def test_cores_are_numbers_and_ranges():
    assert parse_cores("1") == (1,)
    assert parse_cores("0,4-6") == (0, 4, 5, 6)
    for text in ("", "x", "3-1", "1-", "1,,2"):
        with pytest.raises(PlanError, match="cores are"):
            parse_cores(text)
    with pytest.raises(PlanError, match=r"core 7 is not among those of this process: \[0, 1\]"):
        check_cores((0, 7), {0, 1})


def test_a_header_field_has_a_name_and_a_value():
    assert parse_header("X-Token:  a:b ") == ("X-Token", "a:b")
    for text in ("", "X-Token", ": x", "X Token: x", "X: a\r\nY: b"):
        with pytest.raises(PlanError, match="header is"):
            parse_header(text)


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize(("connections", "processes"), [(1, 1), (10, 3), (64, 4), (7, 7)])
def test_shares_sum_up_and_differ_by_one_connection_at_most(connections, processes):
    shares = Plan(connections=connections, processes=processes, rate=1000.0).shares(TARGET)
    numbers = [share["connections"] for share in shares]
    assert len(numbers) == processes
    assert sum(numbers) == connections
    assert max(numbers) - min(numbers) <= 1
    assert sum(share["rate"] for share in shares) == pytest.approx(1000.0)
    # Each connection has the same rate, and no two processes send the same.
    assert len({round(share["rate"] / share["connections"], 9) for share in shares}) == 1
    assert len({share["seed"] for share in shares}) == processes


def test_seeds_of_two_runs_do_not_overlap():
    first, second = (Plan(seed=seed, processes=4).shares(TARGET) for seed in (1, 2))
    assert not {share["seed"] for share in first} & {share["seed"] for share in second}


def test_a_closed_loop_has_no_rate_in_any_share():
    assert {share["rate"] for share in Plan(processes=2).shares(TARGET)} == {None}


def test_processes_take_cores_in_turn():
    plan = Plan(processes=3, cores=(4, 6))
    assert [plan.core(number) for number in range(3)] == [4, 6, 4]
    assert Plan().core(0) is None


@pytest.mark.parametrize(
    ("duration", "interval"),
    [(0.1, 0.1), (4.9, 0.1), (5, 0.5), (59, 0.5), (60, 1), (600, 1), (601, 2), (3600, 6), (86400, 144)],
)
def test_a_window_has_at_most_600_intervals(duration, interval):
    assert Plan(duration=duration).interval == interval
    assert duration / interval <= 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connections": 1, "processes": 2}, "2 processes share 1 connections"),
        ({"mode": "fanout", "processes": 2}, "fanout runs in 1 process, 2 were asked for"),
        ({"mode": "fanout", "connections": 5, "stuck": 5}, "5 of 5 connections are stuck"),
        ({"stuck": 1}, "stuck connections are for fanout, the mode is echo"),
        ({"mode": "storm", "rate": 5.0}, "storm sends no messages: it takes no rate"),
        ({"mode": "idle", "deflate": True}, "idle sends no messages: it takes no deflate"),
        ({"server_no_context": True}, "server_no_context is asked for without deflate"),
        ({"fragments": 3, "sizes": ((64, 1.0), (2, 1.0))}, "3 fragments of a message of 2 bytes"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(PlanError, match=message):
        Plan(**options).check()


# ---------------------------------------------------------------- targets


def test_a_url_becomes_an_address_with_its_host_path_and_name():
    target = find("wss://LOCALHOST:8443/chat?room=1")
    assert (target.authority, target.path, target.server_name) == (
        "localhost:8443",
        "/chat?room=1",
        "localhost",
    )
    assert target.address in ("127.0.0.1", "::1")
    assert target.arguments()["tls"] is True
    assert find("ws://[::1]:9").describe() == "[::1]:9"
    assert find("ws://127.0.0.2").is_loopback
    assert not find("ws://192.168.1.1").is_loopback


def test_credentials_are_sent_and_not_shown():
    target = find("ws://user:secret@127.0.0.1:9/")
    assert dict(target.headers) == {"Authorization": "Basic dXNlcjpzZWNyZXQ="}
    assert "secret" not in target.url


def test_a_unix_socket_has_two_paths():
    target = find("ws+unix:///run/server.sock:/chat?x=1")
    assert (target.unix, target.path, target.server_name) == ("/run/server.sock", "/chat?x=1", None)
    assert find("ws+unix:///run/server.sock").path == "/"
    assert find("wss+unix:///run/server.sock").server_name == "localhost"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "127.0.0.1:9",
        "ws://",
        "ws://127.0.0.1/#part",
        "ws+unix://relative",
        "http+unix:///run/server.sock",
    ],
)
def test_what_is_no_websocket_url_is_refused(url):
    with pytest.raises(TargetError):
        find(url)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fe80::1%eth0", "fd00::1"]
)
def test_this_machine_and_private_networks_are_near(address):
    assert is_near(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_other_addresses_are_not(address):
    assert not is_near(address)


def test_a_server_elsewhere_is_refused_unless_that_is_allowed():
    with pytest.raises(TargetError, match=r"8\.8\.8\.8 is 8\.8\.8\.8, neither .* --allow-remote"):
        find("ws://8.8.8.8/")
    assert find("ws://8.8.8.8/", allow_remote=True).address == "8.8.8.8"


def test_of_several_addresses_the_one_that_is_listened_on_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert first_open(["127.0.0.9", "127.0.0.1"], port) == "127.0.0.1"
    assert first_open(["127.0.0.9", "127.0.0.1"], port) == "127.0.0.9"


# ---------------------------------------------------------------- when a run fails


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [
        ("p99>5ms", "p99", 5e6),
        (" p999 >= 1.5 s ", "p999", 1.5e9),
        ("max>100us", "max", 1e5),
        ("rate<10k", "rate", 1e4),
        ("rate < 1.5M", "rate", 1.5e6),
        ("errors>0", "errors", 0),
        ("cpu>2us", "cpu", 2e3),
        ("memory>100M", "memory", 100 * 2**20),
        ("connections<1000", "connections", 1000),
    ],
)
def test_a_condition_has_a_name_an_operator_and_a_limit(text, name, limit):
    condition = parse_condition(text)
    assert (condition.name, condition.limit) == (name, limit)


@pytest.mark.parametrize(
    ("text", "met", "not_met"),
    [("rate>5", 6, 5), ("rate>=5", 5, 4), ("rate<5", 4, 5), ("rate<=5", 5, 6)],
)
def test_a_condition_is_met_on_its_side_of_the_limit(text, met, not_met):
    condition = parse_condition(text)
    assert condition.is_met(met)
    assert not condition.is_met(not_met)
    assert condition.is_met(None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a name, an operator and a number with its unit, as in p99>5ms"),
        ("p99", "names are p50, p90, p99, p999, max, mean, cpu, rate, errors, connections, memory"),
        ("p99=5ms", "operators > >= < <="),
        ("p99>-5ms", "expected a name"),
        ("p95>5ms", "is about 'p95', allowed are p50, p90"),
        ("p99>5", "unit of 'p99>5' is missing, allowed for p99 are ns, us, ms, s"),
        ("p99>5k", "is 'k', allowed for p99 are ns, us, ms, s"),
        ("rate<5ms", "is 'ms', allowed for rate are k, M or none"),
        ("__import__('os')>1", "expected a name"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_is_allowed(text, message):
    with pytest.raises(ConditionError) as caught:
        parse_condition(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "mode"), [("cpu>1us", "echo"), ("memory>1M", "idle"), ("p99>1ms", "idle"), ("rate<1", "idle")]
)
def test_a_condition_about_what_a_run_will_not_measure_is_refused(text, mode):
    with pytest.raises(ConditionError, match=text):
        check_condition(parse_condition(text), mode, server_known=False)


def test_conditions_about_the_server_need_its_process():
    check_condition(parse_condition("cpu>1us"), "echo", server_known=True)
