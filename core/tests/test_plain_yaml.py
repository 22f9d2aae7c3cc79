"""YAML of users: plain values, errors with their line, and nothing that costs more than it is worth."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.errors import UsageError
from vmatlas.plain_yaml import read_yaml

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff\ufffe\uffff"), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | TEXTS | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_the_library_writes_is_read_as_it_was(value: object) -> None:
    import yaml

    assert read_yaml(yaml.safe_dump(value, allow_unicode=True), "a file") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 12", {"a": 12}),
        ("a: 0x1f", {"a": 31}),
        ("a: 1.5", {"a": 1.5}),
        ("a: 2026-12-31", {"a": datetime.date(2026, 12, 31)}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: 'yes'", {"a": "yes"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x {k: 1}\nb:\n  <<: *x\n  z: 2", {"a": {"k": 1}, "b": {"k": 1, "z": 2}}),
        (
            "a: &x {k: 1, z: 0}\nc: &y {k: 2, u: 3}\nb: {<<: [*x, *y], z: 2}",
            {"a": {"k": 1, "z": 0}, "c": {"k": 2, "u": 3}, "b": {"k": 1, "z": 2, "u": 3}},
        ),
        ("&k a: 1\nb: *k", {"a": 1, "b": "a"}),
        ("{1: a, =: b, 2026-01-01: c, ~: d}", {1: "a", "=": "b", datetime.date(2026, 1, 1): "c", None: "d"}),
        ("a: !!str b\nd: !!map {}\ne: !!seq []", {"a": "b", "d": {}, "e": []}),
        ("--- a\n...", "a"),
        ("# nothing", None),
        ("a: |\n  one\n  two\nb: >\n  one\n  two", {"a": "one\ntwo\n", "b": "one two"}),
        (b"a: \xc3\xa9", {"a": "\u00e9"}),
    ],
)
def test_plain_values_are_what_yaml_says(text: str | bytes, value: object) -> None:
    assert read_yaml(text, "a file") == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: !!timestamp x", "file, line 2: no YAML: a tag that is written out"),
        ("a: !!bool x", "a tag that is written out"),
        ("a: !!int ''", "a tag that is written out"),
        ("a: !!int 1:1:1", "a tag that is written out"),
        ("!!python/object:os.system {}", "a tag that is written out"),
        ("!!set {a, b}", "a tag that is written out"),
        ("a: 1\nb: 2\na: 3", "line 3: no YAML: 'a' stands there twice"),
        ("a: 2026-99-99", "month"),
        ("? [a]\n: b", "unhashable"),
        ("a: &x 1\nb: &x 2", "line 2: no YAML: a second anchor 'x'"),
        ("a: 1\nb: *x", "line 2: no YAML: no value called 'x'"),
        ("a: &x [*x]", "no value called 'x' ends before"),
        ("a: 1\n--- 2", "line 2: no YAML: but found another document"),
        ("a: &x {k: 1}\nb: {<<: *x, <<: *x}", "line 2: no YAML: '<<' stands there twice"),
        ("<<: 1", "line 1: no YAML: expected a mapping or a list of mappings"),
        ("a: <<", "merge"),
        ("[" * 100_000, "file"),
        ("{a: " * 5_000 + "}" * 5_000, "file"),
        ("a: \t- b\n\tc", "file, line"),
        ("a\0b", "control characters"),
        (b"\xff\x00", "file"),
    ],
)
def test_what_is_not_plain_is_refused_in_a_line(text: str | bytes, words: str) -> None:
    with pytest.raises(UsageError) as error:
        read_yaml(text, "file")
    assert words in error.value.message and "\n" not in error.value.message


@pytest.mark.parametrize(
    "digits", ["9" * 200_000, "1:" * 100_000 + "1", "0x" + "f" * 200_000, "1" * 5_000 + "." + "1" * 5_000]
)
def test_a_number_that_nothing_has_is_a_text_and_costs_no_more_than_one(digits: str) -> None:
    assert read_yaml(f"a: {digits}", "file") == {"a": digits}


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_text_is_values_or_refused(text: str | bytes) -> None:
    try:
        read_yaml(text, "file")
    except UsageError as error:
        assert "file" in error.message


def test_a_large_text_takes_no_more_than_some_times_its_size() -> None:
    """The library's own tree takes some 60 times as much."""
    import tracemalloc

    text = "hosts:\n" + "".join(
        f"  host-{number}: {{target: 'ssh:root@10.0.0.{number}', labels: {{rack: r{number}}}}}\n"
        for number in range(5000)
    )
    tracemalloc.start()
    try:
        told = read_yaml(text, "file")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(told["hosts"]) == 5000
    assert most < 24 * len(text)
