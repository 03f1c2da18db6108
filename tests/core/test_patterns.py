"""Patterns of topics: what they stand for, and that to find out is quick."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.patterns import expression_of


def stands_for(pattern, name):
    """Try every way: a star is some characters without a dot; as the last part it is all the rest."""
    if pattern.endswith(".*"):
        start = pattern[:-1]
        return any(matches(start, name[:i]) for i in range(1, len(name)))
    return matches(pattern, name)


def matches(pattern, name):
    if not pattern:
        return not name
    if not name:
        return False
    if pattern[0] == "*":
        return name[0] != "." and (matches(pattern[1:], name[1:]) or matches(pattern, name[1:]))
    return pattern[0] == name[0] and matches(pattern[1:], name[1:])


@given(pattern=st.text("ab.*", min_size=1, max_size=9), name=st.text("ab.", min_size=1, max_size=9))
def test_a_pattern_stands_for_what_the_rule_says(pattern, name):
    assert bool(expression_of(pattern).fullmatch(name)) == stands_for(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*a" * 20, "a" * 60 + "!"),
        ("*" * 60, "." * 120),
        ("*a.*" * 16 + "b", "aa." * 40),
        ("*a" * 64, "a" * 127),
    ],
)
def test_no_pattern_takes_long(pattern, name):
    # To try all ways would take years.
    assert not expression_of(pattern).fullmatch(name)


def test_characters_that_mean_something_to_expressions_mean_themselves():
    assert expression_of("a+[*].(x)").fullmatch("a+[b].(x)")
    assert not expression_of("a+[*].(x)").fullmatch("aa[b].(x)")
