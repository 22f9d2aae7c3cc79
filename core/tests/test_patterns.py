"""Patterns of `vmatlas.patterns`: those of `re`, compiled when they are first used."""

from __future__ import annotations

import re

import pytest

from vmatlas.patterns import pattern


def test_a_pattern_has_the_methods_of_re():
    words = pattern(rb"(?m)^(\w+)=(\d+)$")
    text = b"a=1\nb=x\nc=3"
    assert words.findall(text) == [(b"a", b"1"), (b"c", b"3")]
    assert words.fullmatch(b"a=1")[2] == b"1" and words.match(b"b=x") is None
    assert words.sub(rb"\1", text) == b"a\nb=x\nc" and words.search(text, 4)[1] == b"c"
    assert (words.pattern, words.groups) == (rb"(?m)^(\w+)=(\d+)$", 2)


def test_a_pattern_is_compiled_at_its_first_use(monkeypatch):
    asked = []
    compiled = re.compile
    monkeypatch.setattr(re, "compile", lambda text, flags=0: asked.append(text) or compiled(text, flags))
    digits = pattern("[0-9]+")
    assert asked == []
    assert digits.match("12") and digits.match("3") and asked == ["[0-9]+"]


def test_a_pattern_that_makes_no_sense_says_so_when_it_is_used():
    with pytest.raises(re.error, match="missing \\)"):
        pattern("(").match("x")
