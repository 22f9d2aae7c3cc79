"""Dataclasses with slots and named tuples, for what every command loads: made by less than the standard library's. No
I/O.

`import dataclasses` takes as long as the start of Python itself (it brings in `inspect`, `ast`, `tokenize`), and then
compiles six methods for each class. Here one is compiled, `__init__`; the others are written once, below. To a type
checker these are the library's own, and the library's functions (`replace`, `asdict`, `fields`) take them: the
description that they look for is made when it is first asked for. What is not needed here (inheritance, `order`,
`kw_only`) is not offered: a module that few load imports `dataclasses`.

A named tuple of `typing` compiles the annotation of each field, and to compile at all makes Python's classes of syntax
trees. Here annotations stay the text that they are; a module that few load imports `typing.NamedTuple`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import Field
    from dataclasses import asdict as asdict
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import Any, NoReturn
    from typing import NamedTuple as NamedTuple
else:
    from collections import namedtuple

    _NOT_GIVEN = object()

    class _Fields(type):
        """Makes a class of what stands in the body of one: its fields are those that have an annotation."""

        def __new__(cls, name: str, _: tuple[type, ...], space: dict[str, Any]) -> type:
            types = space.pop("__annotations__", {})
            defaults = [space.pop(field) for field in types if field in space]
            made = namedtuple(name, types, defaults=defaults, module=space.pop("__module__"))
            made.__annotations__ = made.__new__.__annotations__ = types
            for key, value in space.items():
                setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_Fields, "NamedTuple", (), {"__doc__": "As of `typing`, as a base class."})

    class _Factory:
        """The default of a field that is made anew for each value."""

        def __init__(self, make: Callable[[], object]) -> None:
            self.make = make

    class _Description:
        """`__dataclass_fields__`, made by the standard library when it is first looked at."""

        def __init__(self, types: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
            self._types = types
            self._defaults = defaults

        def __get__(self, _: object, kind: Any) -> dict[str, Field[Any]]:
            import dataclasses

            told = []
            for name, of in self._types.items():
                default = self._defaults.get(name, dataclasses.MISSING)
                made = isinstance(default, _Factory)
                how = dataclasses.field(default_factory=default.make) if made else dataclasses.field(default=default)
                told.append((name, of, how))
            kind.__dataclass_fields__ = dataclasses.make_dataclass(kind.__name__, told).__dataclass_fields__
            return kind.__dataclass_fields__

    def field(*, default_factory: Callable[[], object]) -> _Factory:
        """As of `dataclasses`."""
        return _Factory(default_factory)

    def replace(value: Any, /, **changes: object) -> Any:
        """As of `dataclasses`, of values that are made here."""
        return type(value)(**{name: getattr(value, name) for name in value.__slots__} | changes)

    def asdict(value: Any, /) -> dict[str, object]:
        """As of `dataclasses`, of values that are made here and hold no others."""
        return dict(zip(value.__slots__, _values(value), strict=True))

    def dataclass(*, slots: bool, frozen: bool = False, eq: bool = True, repr: bool = True) -> Callable[[type], type]:
        """As of `dataclasses`; always with slots."""
        if not slots:
            raise TypeError("these have slots: dataclasses.dataclass makes others")

        def make(plain: type) -> type:
            space = {name: value for name, value in vars(plain).items() if name not in ("__dict__", "__weakref__")}
            space["__qualname__"] = plain.__qualname__
            types = dict(plain.__annotations__)
            defaults = {name: space.pop(name) for name in types if name in space}
            space["__slots__"] = space["__match_args__"] = tuple(types)
            space["__dataclass_fields__"] = _Description(types, defaults)
            space["__replace__"] = replace
            if eq:
                space.setdefault("__eq__", _is_equal)
                space.setdefault("__hash__", _hash if frozen else None)
            if repr:
                space.setdefault("__repr__", _repr)
            if frozen:
                space |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
                space |= {"__getstate__": _state, "__setstate__": _set_state}
            made = type(plain)(plain.__name__, plain.__bases__, space)
            made.__init__ = _initializer(made, types, defaults)
            return made

        return make

    def _initializer(kind: type, types: Mapping[str, Any], defaults: Mapping[str, Any]) -> Callable[..., None]:
        """The one method that is compiled: so a call that is wrong has the error of any other function's."""
        names = {f"_set_{name}": vars(kind)[name].__set__ for name in types}
        names |= {f"_make_{name}": each.make for name, each in defaults.items() if isinstance(each, _Factory)}
        lines = [
            f" _set_{name}(self, _make_{name}() if {name} is _not_given else {name})"
            if f"_make_{name}" in names
            else f" _set_{name}(self, {name})"
            for name in types
        ]
        if "__post_init__" in vars(kind):
            lines.append(" self.__post_init__()")
        given = ", ".join(f"{name}=None" if name in defaults else name for name in types)
        names["_not_given"] = _NOT_GIVEN
        exec("\n".join([f"def __init__(self, {given}):", *lines]), names)
        made = names["__init__"]
        made.__defaults__ = tuple(_NOT_GIVEN if isinstance(each, _Factory) else each for each in defaults.values())
        made.__qualname__ = f"{kind.__qualname__}.__init__"
        made.__module__ = kind.__module__
        made.__annotations__ = {**types, "return": None}
        return made

    def _values(value: Any) -> tuple[object, ...]:
        return tuple([getattr(value, name) for name in value.__slots__])

    def _is_equal(self: Any, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self is other or _values(self) == _values(other)

    def _hash(self: Any) -> int:
        return hash(_values(self))

    def _repr(self: Any) -> str:
        told = ", ".join([f"{name}={getattr(self, name)!r}" for name in self.__slots__])
        return f"{type(self).__qualname__}({told})"

    def _refuse_to_set(self: Any, name: str, value: object) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_to_delete(self: Any, name: str) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _state(self: Any) -> list[object]:
        return list(_values(self))

    def _set_state(self: Any, state: list[object]) -> None:
        for name, value in zip(self.__slots__, state, strict=True):
            object.__setattr__(self, name, value)
