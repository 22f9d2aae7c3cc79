"""Dataclasses with slots and named tuples, for what every command loads: made by less than the standard library's. No
I/O.

`import dataclasses` takes as long as the start of Python itself (it brings in `inspect`, `ast`, `tokenize`), and then
compiles six methods for each class. Here nothing is compiled for a class: what takes its fields as arguments is made
from one function for all that have as many, and the other methods are written once, below. To a type checker these are
the library's own, and the library's functions (`replace`, `asdict`, `fields`) take them: the description that they look
for is made when it is first asked for. What is not needed here (inheritance, `order`, `kw_only`) is not offered: a
module that few load imports `dataclasses`.

A named tuple of `typing` compiles the annotation of each field, one of `collections` what makes its values. Here
annotations stay the text that they are; a module that few load imports `typing.NamedTuple`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from dataclasses import Field
    from dataclasses import asdict as asdict
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import Any, NoReturn
    from typing import NamedTuple as NamedTuple
else:
    from types import FunctionType

    try:
        from collections import _tuplegetter as _field_at
    except ImportError:  # as `collections` does without its compiled part
        from operator import itemgetter

        def _field_at(at: int, told: str) -> property:
            return property(itemgetter(at), doc=told)

    _NOT_GIVEN = object()
    hand_on = tuple.__new__  # what is made of these functions has another of that name: see `_taking`
    _handing_on: dict[int, Any] = {
        function.__code__.co_argcount - 1: function.__code__
        for function in (
            lambda _, a: hand_on(_, (a,)),
            lambda _, a, b: hand_on(_, (a, b)),
            lambda _, a, b, c: hand_on(_, (a, b, c)),
            lambda _, a, b, c, d: hand_on(_, (a, b, c, d)),
            lambda _, a, b, c, d, e: hand_on(_, (a, b, c, d, e)),
            lambda _, a, b, c, d, e, f: hand_on(_, (a, b, c, d, e, f)),
            lambda _, a, b, c, d, e, f, g: hand_on(_, (a, b, c, d, e, f, g)),
            lambda _, a, b, c, d, e, f, g, h: hand_on(_, (a, b, c, d, e, f, g, h)),
        )
    }
    """By the number of arguments behind the first: the code of a function that hands them on as a tuple. Of those that
    most have; others are compiled when they are needed."""

    def _taking(
        first: str, fields: tuple[str, ...], usual: Mapping[str, object], hand_on: Callable[..., object]
    ) -> Any:
        """A function of such arguments, which calls `hand_on` with the first of them and a tuple of the others.

        `usual`: what those are that are left out. A call that is wrong has the error of any other function's.
        """
        if tuple(usual) != fields[len(fields) - len(usual) :]:
            raise TypeError(f"a field without a default stands behind one that has one: {', '.join(fields)}")
        code = _handing_on.get(len(fields))
        if code is None:
            others = "".join([f"_{at}, " for at in range(len(fields))])
            code = _handing_on[len(fields)] = eval(f"lambda _, {others}: hand_on(_, ({others}))").__code__
        code = code.replace(co_varnames=(first, *fields))
        return FunctionType(code, {"hand_on": hand_on, "__builtins__": {}}, argdefs=tuple(usual.values()))

    def _called(made: Any, name: str, kind: str, module: str) -> Any:
        """A function under the name by which a class has it."""
        made.__name__, made.__qualname__, made.__module__ = name, f"{kind}.{name}", module
        return made

    class _Fields(type):
        """Makes a class of what stands in the body of one: its fields are those that have an annotation."""

        def __new__(cls, name: str, _: tuple[type, ...], space: dict[str, Any]) -> type:
            types = space.setdefault("__annotations__", {})
            fields = tuple(types)
            defaults = {field: space.pop(field) for field in fields if field in space}
            made = _taking("_cls", fields, defaults, tuple.__new__)
            made.__annotations__ = types
            space["__new__"] = _called(made, "__new__", space["__qualname__"], space["__module__"])
            space.setdefault("__doc__", f"{name}({', '.join(fields)})")
            space["__slots__"] = ()
            space["_fields"] = space["__match_args__"] = fields
            space["_field_defaults"] = defaults
            for key, method in _OF_TUPLES.items():
                space.setdefault(key, method)
            for at, field in enumerate(fields):
                space[field] = _field_at(at, f"Alias for field number {at}")
            return type(name, (tuple,), space)

    def _make(kind: Any, fields: Iterable[object]) -> Any:
        made = tuple.__new__(kind, fields)
        if len(made) != len(kind._fields):
            raise TypeError(f"Expected {len(kind._fields)} arguments, got {len(made)}")
        return made

    def _with(self: Any, /, **changes: object) -> Any:
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise ValueError(f"Got unexpected field names: {list(changes)!r}")
        return made

    def _told(self: Any) -> str:
        told = ", ".join([f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)])
        return f"{type(self).__name__}({told})"

    _OF_TUPLES = {
        "_make": classmethod(_make),
        "_replace": _with,
        "__replace__": _with,
        "_asdict": lambda self: dict(zip(self._fields, self, strict=True)),
        "__repr__": _told,
        "__getnewargs__": lambda self: tuple(self),
    }

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
        setters = [vars(kind)[name].__set__ for name in types]
        factories = [(at, each) for at, each in enumerate(map(defaults.get, types)) if isinstance(each, _Factory)]
        check = vars(kind).get("__post_init__")

        def fill(self: Any, given: tuple[object, ...]) -> None:
            for set_field, value in zip(setters, given, strict=True):
                set_field(self, value)
            for at, factory in factories:
                if given[at] is _NOT_GIVEN:
                    setters[at](self, factory.make())
            if check is not None:
                self.__post_init__()

        usual = {name: _NOT_GIVEN if isinstance(each, _Factory) else each for name, each in defaults.items()}
        made = _taking("self", tuple(types), usual, fill)
        made.__annotations__ = {**types, "return": None}
        return _called(made, "__init__", kind.__qualname__, kind.__module__)

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
