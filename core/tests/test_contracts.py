"""Contracts of `vmatlas.contracts`: kept as those of `typing` are."""

from __future__ import annotations

import typing

import pytest

from vmatlas import contracts


def _contract(base, checkable):
    @checkable
    class Numbered(base):
        number: int

    @checkable
    class Told(Numbered, base):
        @property
        def name(self) -> str: ...

        def tell(self) -> str: ...

        def members(self) -> int: ...

        def mro(self) -> int: ...

    class Made(Told):
        """No contract itself."""

        number = 1
        name = "made"

        def tell(self) -> str:
            return self.name

    return Told, Made


OURS = _contract(contracts.Protocol, contracts.runtime_checkable)
THEIRS = _contract(typing.Protocol, typing.runtime_checkable)


class Whole:
    """Has all: one of its class, one of its own, one that is dear to look at."""

    def __init__(self) -> None:
        self.number = 3

    @property
    def name(self) -> str:
        return "whole"

    def tell(self) -> str:
        return "told"

    def members(self) -> int:
        return 0

    def mro(self) -> int:
        return 0


class Part:
    number = 3

    def tell(self) -> str:
        return "told"


class HandsOn:
    def __getattr__(self, name: str) -> object:
        return getattr(Whole(), name)


@pytest.mark.parametrize(("told", "made"), [OURS, THEIRS])
def test_a_contract_is_kept_by_whoever_has_all_that_it_names(told, made):
    assert [isinstance(each, told) for each in (Whole(), Part(), HandsOn(), made(), 3, None)] == [
        *(True, False, True, True, False, False)
    ]


@pytest.mark.parametrize(("told", "made"), [OURS, THEIRS])
def test_a_class_that_inherits_from_a_contract_is_none(told, made):
    assert isinstance(made(), made) and issubclass(made, made)
    assert not isinstance(Whole(), made)


def test_what_a_value_has_is_not_asked_for_where_its_class_has_it():
    class Dear(Whole):
        @property
        def name(self) -> str:
            raise AssertionError("asked")

    assert isinstance(Dear(), OURS[0])
