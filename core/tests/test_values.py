"""The dataclasses of `vmatlas.values` are as those of the standard library, to whoever holds one."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import typing

import pytest

from vmatlas import values


def _classes(dataclass, field):
    @dataclass(frozen=True, slots=True)
    class Point:
        """Where."""

        x: int
        y: int = 0
        seen: dict[str, int] = field(default_factory=dict)

        def far(self) -> int:
            return self.x + self.y

    @dataclass(slots=True, eq=False)
    class Pile:
        of: list[int] = field(default_factory=list)

    return Point, Pile


OURS, OUR_PILE = _classes(values.dataclass, values.field)
THEIRS, THEIR_PILE = _classes(dataclasses.dataclass, dataclasses.field)


@values.dataclass(frozen=True, slots=True)
class Checked:
    """Of this module, so that it can be pickled."""

    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(self.size)


@pytest.mark.parametrize("kind", [OURS, THEIRS])
def test_a_value_is_made_told_and_compared_by_its_fields(kind):
    one = kind(1, y=2)
    assert (one.x, one.y, one.seen, one.far(), repr(one)) == (1, 2, {}, 3, f"{kind.__qualname__}(x=1, y=2, seen={{}})")
    assert one == kind(1, 2) and one != kind(1) and one != (1, 2, {})
    assert kind(1).seen is not kind(1).seen
    assert kind.__slots__ == kind.__match_args__ == ("x", "y", "seen")
    assert not hasattr(one, "__dict__")
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    assert hash(kind(1, 2, ())) == hash(kind(1, 2, ()))


@pytest.mark.parametrize("wrong", [{}, {"x": 1, "z": 2}, {"y": 2}])
def test_a_wrong_call_has_the_words_of_the_library(wrong):
    told = []
    for kind in (OURS, THEIRS):
        with pytest.raises(TypeError) as caught:
            kind(**wrong)
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert list(inspect.signature(OURS).parameters) == list(inspect.signature(THEIRS).parameters)


@pytest.mark.parametrize("kind", [OURS, THEIRS])
def test_a_frozen_value_stays_as_it_is(kind):
    one = kind(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        one.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del one.x
    assert one.x == 1


@pytest.mark.parametrize("kind", [OURS, THEIRS])
def test_the_functions_of_the_library_take_it(kind):
    one = kind(1, 2)
    assert dataclasses.is_dataclass(kind) and dataclasses.is_dataclass(one)
    assert [(each.name, each.default) for each in dataclasses.fields(kind)][:2] == [
        ("x", dataclasses.MISSING),
        ("y", 0),
    ]
    assert dataclasses.asdict(one) == {"x": 1, "y": 2, "seen": {}}
    assert dataclasses.replace(one, y=5) == kind(1, 5)
    assert values.replace(OURS(1, 2), x=5) == OURS(5, 2)
    assert values.asdict(OURS(1, 2)) == dataclasses.asdict(THEIRS(1, 2))


@pytest.mark.parametrize("kind", [OUR_PILE, THEIR_PILE])
def test_what_is_not_frozen_changes_and_is_itself_alone(kind):
    one, other = kind(), kind()
    one.of.append(1)
    one.of = [*one.of, 2]
    assert (one.of, other.of, one == kind(one.of), one == one) == ([1, 2], [], False, True)
    assert len({one, other}) == 2


def test_a_value_is_checked_and_can_be_pickled_and_copied():
    assert pickle.loads(pickle.dumps(Checked(3))) == copy.deepcopy(Checked(3)) == Checked(3)
    with pytest.raises(ValueError, match="-1"):
        Checked(-1)
    with pytest.raises(ValueError, match="-1"):
        values.replace(Checked(3), size=-1)


def test_a_class_without_slots_is_the_librarys():
    with pytest.raises(TypeError, match=r"dataclasses\.dataclass makes others"):
        values.dataclass(slots=False)


def _tuples(base):
    class Place(base):
        """Where."""

        x: int
        y: int | None = None

        @property
        def far(self) -> int:
            return self.x + (self.y or 0)

        @classmethod
        def origin(cls):
            return cls(0)

    return Place


OUR_PLACE, THEIR_PLACE = _tuples(values.NamedTuple), _tuples(typing.NamedTuple)


class Placed(values.NamedTuple):
    """Of this module, so that it can be pickled."""

    x: int


@pytest.mark.parametrize("kind", [OUR_PLACE, THEIR_PLACE])
def test_a_named_tuple_is_as_one_of_typing(kind):
    one = kind(1, y=2)
    assert one == (1, 2) and one.far == 3 and kind.origin() == (0, None) and one._replace(x=5).far == 7
    assert repr(one) == "Place(x=1, y=2)" and kind.__doc__ == "Where." and kind.__bases__ == (tuple,)
    assert kind._fields == kind.__match_args__ == ("x", "y") and kind._field_defaults == {"y": None}
    assert kind.__qualname__ == "_tuples.<locals>.Place" and kind.__module__ == __name__
    assert typing.get_type_hints(kind) == {"x": int, "y": int | None}
    assert list(inspect.signature(kind).parameters) == ["x", "y"] and not hasattr(one, "__dict__")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        kind()


def test_a_named_tuple_is_pickled_and_copied():
    assert copy.copy(pickle.loads(pickle.dumps(Placed(7)))) == Placed(7)


def test_a_field_without_a_default_does_not_stand_behind_one_that_has_one():
    with pytest.raises(TypeError, match="x, y"):

        class Tuple(values.NamedTuple):
            x: int = 1
            y: int

    with pytest.raises(TypeError, match="x, y"):

        @values.dataclass(slots=True)
        class Value:
            x: int = 1
            y: int


@pytest.mark.parametrize("kind", [OUR_PLACE, THEIR_PLACE])
def test_a_named_tuple_is_made_of_as_many_as_it_has(kind):
    assert kind._make(iter([1, 2])) == kind(1, 2) and kind(1, 2)._asdict() == {"x": 1, "y": 2}
    with pytest.raises(TypeError, match="Expected 2 arguments, got 3"):
        kind._make([1, 2, 3])
    with pytest.raises(ValueError, match=r"unexpected field names: \['z'\]"):
        kind(1)._replace(z=2)
    with pytest.raises(TypeError, match="takes from 2 to 3 positional arguments but 4 were given"):
        kind(1, 2, 3)
