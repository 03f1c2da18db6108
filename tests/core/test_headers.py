import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers as TheirHeaders

from fastws.headers import Headers, MultipleValuesError, accept_key, parse_list

PAIRS = [("Accept", "a"), ("X-Name", "1"), ("accept", "b")]


class OnlyKeys:
    def keys(self):
        return ["A", "B"]

    def __getitem__(self, name):
        return name.lower()


@pytest.mark.parametrize("name", ["X-Name", "x-name", "X-NAME"])
def test_names_are_looked_up_without_regard_to_case(name):
    headers = Headers(PAIRS)
    assert headers[name] == headers.get(name) == "1"
    assert name in headers
    assert headers.get_all(name) == ["1"]


def test_several_values_are_no_one_value():
    headers = Headers(PAIRS)
    with pytest.raises(MultipleValuesError) as caught:
        headers["Accept"]
    assert isinstance(caught.value, LookupError)
    assert not isinstance(caught.value, KeyError)
    assert str(caught.value) == "'Accept'"
    assert str(MultipleValuesError("a", "b")) == "('a', 'b')"
    assert headers.get_all("ACCEPT") == ["a", "b"]


def test_missing_name_is_a_key_error():
    headers = Headers()
    with pytest.raises(KeyError):
        headers["A"]
    with pytest.raises(KeyError):
        del headers["A"]
    assert headers.get("A") is None
    assert headers.get_all("A") == []
    assert 1 not in headers


def test_setting_adds_and_deleting_removes_all():
    headers = Headers(A="1")
    headers["a"] = "2"
    headers["B"] = "3"
    assert list(headers.raw_items()) == [("A", "1"), ("a", "2"), ("B", "3")]
    assert len(headers) == 2
    del headers["A"]
    assert list(headers.raw_items()) == [("B", "3")]
    headers.clear()
    assert (len(headers), list(headers), list(headers.raw_items())) == (0, [], [])


@pytest.mark.parametrize(
    "source",
    [
        {"A": "a", "B": "b"},
        [("A", "a"), ("B", "b")],
        iter([("A", "a"), ("B", "b")]),
        OnlyKeys(),
        Headers(A="a", B="b"),
    ],
    ids=["mapping", "pairs", "iterator", "keys", "headers"],
)
def test_constructor_and_update_take_what_dict_takes(source):
    headers = Headers(source, C="c")
    headers.update({"a": "again"}, [("D", "d")], B="too")
    assert list(headers.raw_items()) == [
        ("A", "a"), ("B", "b"), ("C", "c"), ("a", "again"), ("D", "d"), ("B", "too"),
    ]  # fmt: skip


def test_update_with_itself_doubles():
    headers = Headers(A="a")
    headers.update(headers)
    assert headers.get_all("A") == ["a", "a"]


@pytest.mark.parametrize(
    "copied", [Headers.copy, copy.copy, copy.deepcopy], ids=["method", "copy", "deepcopy"]
)
def test_copy_is_equal(copied):
    headers = Headers(PAIRS)
    assert copied(headers) == headers


def test_copy_changes_by_itself():
    headers = Headers(PAIRS)
    other = headers.copy()
    other["Accept"] = "c"
    assert headers.get_all("Accept") == ["a", "b"]
    headers.get_all("Accept").append("d")
    assert headers.get_all("Accept") == ["a", "b"]


def test_equality_passes_over_the_case_of_names_only():
    assert Headers(A="a") == Headers(a="a")
    assert Headers(A="a") != Headers(A="A")
    assert Headers([("A", "a"), ("A", "b")]) != Headers([("A", "b"), ("A", "a")])
    assert Headers(A="a") != {"a": "a"}
    with pytest.raises(TypeError):
        hash(Headers())


def test_text_and_bytes_are_the_message():
    headers = Headers(PAIRS)
    assert str(headers) == "Accept: a\r\nX-Name: 1\r\naccept: b\r\n\r\n"
    assert bytes(headers) == headers.serialize() == str(headers).encode()
    assert repr(headers) == f"Headers({PAIRS!r})"
    assert Headers(A="\xff").serialize() == b"A: \xff\r\n\r\n"


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "a\r", "a\n", "é", "a\x00", "(", "a\x7f"])
def test_H34_name_that_is_no_token_is_refused(name):
    headers = Headers()
    with pytest.raises(ValueError, match="no token"):
        headers[name] = "a"
    with pytest.raises(ValueError, match="no token"):
        Headers({name: "a"})
    assert headers == Headers()


@pytest.mark.parametrize("character", [*map(chr, [*range(9), *range(10, 32), 127]), "\u0100", "\u2028", "€"])
def test_H34_value_that_cannot_stand_in_a_message_is_refused(character):
    headers = Headers()
    for value in (f"a{character}b", character, f"a{character}"):
        with pytest.raises(ValueError, match="field X is "):
            headers["X"] = value
    assert headers == Headers()


def test_H34_injected_field_is_refused():
    with pytest.raises(ValueError, match="field Location"):
        Headers(Location="/\r\nSet-Cookie: a=b")


@given(st.lists(st.tuples(st.sampled_from(["A", "a", "B"]), st.text("ab\t ", max_size=5)), max_size=10))
def test_headers_agree_with_websockets(pairs):
    ours, theirs = Headers(pairs), TheirHeaders(pairs)
    assert list(ours.raw_items()) == list(theirs.raw_items())
    assert (str(ours), ours.serialize(), list(ours), len(ours)) == (
        str(theirs), theirs.serialize(), list(theirs), len(theirs),
    )  # fmt: skip
    for name in ("A", "B", "C"):
        assert ours.get_all(name) == theirs.get_all(name)
        assert (name in ours) == (name in theirs)


def test_accept_key_is_that_of_the_RFC():
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ("", []),
        (" ", []),
        (",", []),
        (" ,\t, ,", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a ,\tb\t", ["a", "b"]),
        (",a,,b,", ["a", "b"]),
        ("a b, c", ["a b", "c"]),
        ("a\x0b,\x85", ["a\x0b", "\x85"]),
    ],
)
def test_list_elements_are_split_and_empty_ones_ignored(value, elements):
    assert parse_list(value) == elements
