"""The load generator's figures: merging, percentiles, what they are worth; as lines and as a page."""

import dataclasses
import html.parser
import json
import random
import re
from collections import Counter
from datetime import datetime, timezone

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from fastws.bench import charts, rows, screen
from fastws.bench.conducting import Outcome
from fastws.bench.figures import Latencies, Point, Series, Taken, curve, is_growing, percentile
from fastws.bench.judging import parse_condition, saturated, warnings
from fastws.bench.observing import Times, Use
from fastws.bench.page import page
from fastws.bench.plan import Plan
from fastws.bench.report import report
from fastws.bench.target import Target

TARGET = Target("ws://127.0.0.1:9/<chat>", "127.0.0.1", 9, None, "127.0.0.1:9", "/", None)
BEGAN = datetime(2024, 5, 1, 12, 30, tzinfo=timezone.utc)
BUSY, HALF = Use(0.98, 0.98, 0.98, 0.0), Use(0.5, 0.5, 0.5, 0.0)


def taken(**more):
    nothing = Taken(0.1, 0, 0, 0, 0, 0, 0.0, 0, 0, 0, [], [], {})
    return nothing._replace(**more)


def outcome(**more):
    """A window of one second with 2,000 messages, of which one took a second."""
    made = Outcome(
        seconds=1.0, opened=4, left=4, messages=2000, done=2000, sent_bytes=140_000, received_bytes=132_000
    )
    made.latencies.add([(100_000, 1000), (200_000, 999), (10**9, 1)])
    made.handshake_latencies.add([(500_000, 4)])
    made.loads = [HALF]
    made.series = [
        Point(0.5, 1900.0, 100_000, 200_000, 4, 0, 0.5, 10**7),
        Point(1.0, 2100.0, None, None, 4, 0, 0.6, 10**7),
    ]
    return dataclasses.replace(made, **more)


def document(plan=None, **more):
    return report(plan or Plan(duration=1.0), TARGET, outcome(**more), (), BEGAN)


# ---------------------------------------------------------------- merging


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=300), st.integers(1, 4), st.randoms())
def test_percentiles_do_not_depend_on_which_process_measured_what(values, processes, chance):
    parts = [Counter() for _ in range(processes)]
    for value in values:
        chance.choice(parts)[value] += 1
    merged = Latencies()
    for part in parts:
        merged.add(sorted(part.items()))
    whole = merged.summary()
    assert whole["count"] == len(values)
    assert (whole["min"], whole["max"]) == (min(values), max(values))
    ordered = sorted(values)
    for name, share in (("p50", 0.5), ("p90", 0.9)):
        # The histogram's own rounding of ranks, and its three digits.
        rank = max(int(share * len(values) + 0.5), 1)
        assert whole[name] == pytest.approx(ordered[rank - 1], rel=0.002, abs=1)


def test_the_encoded_histogram_is_read_by_the_library():
    latencies = Latencies()
    latencies.add([(1000, 5), (5000, 95)])
    histogram = HdrHistogram.decode(latencies.summary()["histogram"])
    assert histogram.get_total_count() == 100
    assert histogram.get_value_at_percentile(99) == pytest.approx(5000, rel=0.001)


def test_no_latencies_have_no_summary():
    assert Latencies().summary() is None


def test_what_took_more_than_an_hour_is_kept():
    latencies = Latencies()
    latencies.add([(4 * 3600 * 10**9, 1)])
    assert latencies.summary()["max"] == 4 * 3600 * 10**9


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50), st.floats(0, 1))
def test_a_percentile_of_pairs_is_that_of_their_values(values, share):
    pairs = sorted(Counter(values).items())
    found = percentile(pairs, share)
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < max(share * len(values), 1)


def test_an_interval_is_a_point_when_all_processes_have_sent_theirs():
    series = Series("echo", 2, 0.1, 0.2)
    assert series.add(0, taken(messages=10, connections=3, latencies=[(5, 9), (7, 1)])) is None
    assert series.add(1, taken(messages=1)) is None
    point = series.add(0, taken(messages=20, connections=4, latencies=[(6, 20)], errors={"reset": 2}))
    assert (point.at, point.rate, point.connections, point.errors) == (0.1, pytest.approx(300), 7, 2)
    assert (point.p50, point.p99) == (6, 7)
    series.finish()
    assert [one.at for one in series.points] == [0.1, 0.2]
    assert series.points[1].p50 is None


def test_a_storm_counts_handshakes_and_idle_nothing():
    one = taken(messages=5, handshakes=7)
    assert [Series(mode, 1, 0.1, 1).add(0, one).rate for mode in ("echo", "storm", "idle")] == [
        pytest.approx(50),
        pytest.approx(70),
        0,
    ]


def test_the_curve_rises_to_the_longest_latency():
    latencies = Latencies()
    latencies.add([(100, 90), (200, 9), (1000, 1)])
    points = curve(latencies.summary()["histogram"])
    assert points == [(1, 100), (10, 100), (10, 200), (100, 200), (100, 1000), (100, 1000)]


def test_late_grows_when_each_third_is_worse():
    assert is_growing([0, 1, 2, 3, 4, 5])
    assert not is_growing([5, 0, 5, 0, 5, 0])
    assert not is_growing([1, 2])


# ---------------------------------------------------------------- judging


def test_the_load_is_saturated_when_its_core_is_full_and_the_servers_is_not():
    plan = Plan()
    assert saturated(plan, outcome(loads=[HALF, BUSY])) == "load"
    assert saturated(plan, outcome(loads=[BUSY], server=HALF)) == "load"
    assert saturated(plan, outcome(loads=[BUSY], server=BUSY)) == "server"
    assert saturated(plan, outcome(loads=[HALF], server=HALF)) is None


def test_several_threads_of_a_server_are_not_one_full_core():
    assert saturated(Plan(), outcome(server=Use(1.2, 1.2, 0.6, 0.0))) is None


def test_an_open_loop_that_keeps_its_rate_is_not_saturated_however_busy():
    assert saturated(Plan(rate=2000.0), outcome(loads=[BUSY])) is None
    assert saturated(Plan(rate=3000.0), outcome(loads=[BUSY])) == "load"


def codes(plan, **more):
    made = outcome(**more)
    return [warned.code for warned in warnings(plan, made, made.latencies.summary())]


SECOND = Plan(duration=1.0)


@pytest.mark.parametrize(
    ("plan", "more", "code"),
    [
        (SECOND, {"loads": [BUSY]}, "load-saturated"),
        (Plan(duration=1.0, rate=3000.0), {"late": 5}, "rate-missed"),
        (Plan(duration=1.0, rate=2000.0), {"late": 5, "late_grew": True}, "late"),
        (SECOND, {"unanswered": 3}, "unanswered"),
        (SECOND, {"loads": [Use(0.5, 0.5, 0.5, 0.2)]}, "load-waited"),
        (SECOND, {"server": Use(0.5, 0.5, 0.5, 0.2)}, "server-waited"),
        (SECOND, {"stolen_share": 0.1}, "stolen"),
        (SECOND, {"uncompressed": 3}, "uncompressed"),
        (SECOND, {"stuck_closed": 3}, "stuck-closed"),
        (Plan(duration=5.0), {}, "short"),
    ],
)
def test_a_reader_is_warned(plan, more, code):
    assert codes(plan, **more) == [code]


def test_a_quiet_run_has_no_warnings():
    assert codes(SECOND) == []


def test_few_latencies_are_no_basis_for_p999():
    few = outcome(latencies=Latencies())
    few.latencies.add([(1000, 999)])
    assert [one.code for one in warnings(SECOND, few, few.latencies.summary())] == ["few-latencies"]


def test_fanout_owes_a_delivery_to_each_reader():
    plan = Plan(mode="fanout", connections=10, stuck=2, rate=100.0)
    assert plan.due == 800


def test_use_is_what_threads_ran_between_two_readings():
    before = Times({1: 10**9, 2: 5 * 10**8}, 10**9)
    after = Times({1: 2 * 10**9, 3: 5 * 10**8}, 12 * 10**8)
    use = after.since(before, 2.0)
    assert (use.cpu_seconds, use.share, use.busiest_thread) == (1.5, 0.75, 0.5)
    assert use.wait_share == pytest.approx(0.1)


# ---------------------------------------------------------------- the document


def test_conditions_are_judged_and_fail_the_run():
    conditions = tuple(map(parse_condition, ("p99>100us", "max>2s", "errors>0", "memory>1")))
    made = report(SECOND, TARGET, outcome(), conditions, BEGAN)
    assert [one["met"] for one in made["conditions"]] == [True, False, False, True]
    assert made["passed"] is False
    failed = [text for bad, text in rows.verdicts(made) if bad]
    assert failed == ["p99>100us: it is 200 µs", "memory>1: it was not measured"]


@pytest.mark.parametrize("more", [{"errors": Counter(reset=1)}, {"failure": "the server left"}])
def test_errors_fail_a_run_without_conditions(more):
    assert document(**more)["passed"] is False


def test_a_good_run_passes_and_its_document_is_json():
    made = document()
    assert made["passed"] is True
    assert made["schema"] == "fastws-bench/1"
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_values_of_header_fields_are_not_in_the_document():
    made = document(Plan(duration=1.0, headers=(("Authorization", "secret"),)))
    assert made["plan"]["headers"] == ["Authorization"]
    assert "secret" not in json.dumps(made)


def test_memory_of_one_connection_is_told_for_idle_ones():
    plan = Plan(mode="idle", duration=1.0)
    made = document(plan, server=HALF, memory={"before": 1000, "start": 5000, "end": 9000})
    assert made["server"]["memory_per_connection"] == 2000


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999 ns"),
        (999.9, "1.00 µs"),
        (1234, "1.23 µs"),
        (99_960, "100 µs"),
        (12_340_000, "12.3 ms"),
        (61e9, "61 s"),
    ],
)
def test_times_have_three_digits(number, text):
    assert rows.duration(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1,023 B"), (1536, "1.50 KiB"), (-(2**20), "-1 MiB")]
)
def test_bytes_have_binary_units(number, text):
    assert rows.size(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0%"), (0.004, "0.4%"), (0.05, "5%"), (0.0949, "9.5%"), (0.5, "50%"), (1.257, "126%")],
)
def test_small_shares_have_one_digit_more(number, text):
    assert rows.percent(number) == text


def test_plain_lines_have_all_sections():
    text = screen.plain(document(server=HALF, errors=Counter({"wrong answer": 3})))
    for line in ("Load", "Throughput", "Latency", "Handshake latency", "Server", "Errors"):
        assert f"{line}\n" in text
    assert re.search(r"^  rate +2,000 /s$", text, re.MULTILINE)
    assert re.search(r"^  wrong answer +3$", text, re.MULTILINE)
    assert "failed: 3 errors\n" in text


# ---------------------------------------------------------------- the page


class Page(html.parser.HTMLParser):
    """Notes tags, references and what is not closed."""

    VOID = ("meta", "line", "circle", "rect", "polygon", "polyline")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.references, self.titles = Counter(), [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.references += [value for name, value in attrs if name in ("src", "href", "data", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "title":
            self.titles.append(data)


@pytest.mark.parametrize("mode", ["echo", "fanout", "storm", "idle"])
@pytest.mark.parametrize("server", [None, HALF])
def test_the_page_is_whole_and_needs_nothing_else(mode, server):
    made = document(Plan(mode=mode, duration=1.0), server=server, handshakes=5)
    text = page(made)
    parsed = Page(text)
    assert parsed.open == []
    assert parsed.references == []
    assert not parsed.tags["script"]
    assert not parsed.tags["link"]
    assert not re.search(r"https?:|@import|url\(", text)
    assert parsed.tags["svg"] >= (2 if mode == "idle" and server is None else 3) - (server is None)
    assert "prefers-color-scheme: dark" in text


def test_text_from_outside_is_escaped():
    text = page(document(errors=Counter({"bad handshake: <b>": 1})))
    assert "<chat>" not in text
    assert "&lt;chat&gt;" in text
    assert "bad handshake: <b>" not in text


def test_points_tell_more_under_the_pointer():
    titles = Page(page(document())).titles
    assert "0.5 s: 1,900" in titles
    assert "0.5 s: p50 100 µs, p99 200 µs" in titles
    assert "1 s: p50 none, p99 none" in titles
    assert "0.0% are at most 100 µs" in titles
    assert "99.9500% are at most 200 µs" in titles


def test_a_run_that_never_began_has_a_page():
    made = report(Plan(), TARGET, Outcome(failure="nobody listens"), (), BEGAN)
    assert "nobody listens" in page(made)
    assert "failed: nobody listens" in screen.plain(made)


@given(st.floats(0, 1e12), st.booleans())
def test_a_linear_axis_holds_its_values_with_few_ticks(high, binary):
    axis = charts.linear_axis(0, high, str, binary=binary)
    assert axis.low == 0
    assert axis.high >= high * (1 - 1e-6)
    assert 2 <= len(axis.ticks) <= 8
    assert 0 <= axis.place(high) <= 1


@given(st.floats(1, 1e11), st.floats(1, 1e11))
def test_a_logarithmic_axis_holds_its_values_with_few_ticks(one, other):
    axis = charts.log_axis(min(one, other), max(one, other), str)
    assert axis.low <= min(one, other) * 1.01
    assert axis.high >= max(one, other) * 0.99
    assert 2 <= len(axis.ticks) <= 13
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == 1


def test_a_line_is_parted_where_there_is_nothing():
    x, y = charts.linear_axis(0, 10, str), charts.linear_axis(0, 10, str)
    points = [(0, 1), (1, 2), (2, None), (3, 5)]
    drawn = charts.chart("a chart", charts.HALF, x, y, [charts.Line(points)])
    assert drawn.count("<polyline") == 1
    assert drawn.count("<circle") == 1


def test_points_less_than_half_a_pixel_apart_are_drawn_once():
    chance = random.Random(1)
    points = sorted((chance.random(), 1.0) for _ in range(20_000))
    x, y = charts.linear_axis(0, 1, str), charts.linear_axis(0, 2, str)
    assert len(charts.pieces(charts.HALF, x, y, points)[0]) <= 2 * charts.HALF.width


def test_a_sparkline_is_as_high_as_its_values():
    assert screen.sparkline([0, 50, 100]) == "▁▅█"
    assert screen.sparkline([0, 0]) == "▁▁"
