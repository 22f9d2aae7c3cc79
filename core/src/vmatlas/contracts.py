"""Protocols whose keeping is soon found out, and what else of `typing` is there at run time, for what every command
loads. No I/O.

`import typing` takes half as long as the start of Python itself. To ask one of its protocols whether a value keeps it
takes 0.1 ms in Python 3.11 (which looks each member up in all classes anew), and brings in `inspect` since 3.12, as
dear as a start of Python; each such class takes three times as long to make as a plain one; one of its dictionaries
compiles the annotation of each key. To a type checker these are the library's own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ParamSpec as ParamSpec
    from typing import Protocol as Protocol
    from typing import TypedDict as TypedDict
    from typing import TypeVar as TypeVar
    from typing import runtime_checkable as runtime_checkable
else:

    class _Contract(type):
        """Of a contract: its members. Of a class that inherits from one and is none itself: a plain class."""

        def __instancecheck__(cls, value: object) -> bool:
            kind = type(value)
            if Protocol not in cls.__bases__:
                return type.__subclasscheck__(cls, kind)
            return all(hasattr(kind, name) or hasattr(value, name) for name in _members(cls))

        def __subclasscheck__(cls, kind: type) -> bool:
            if Protocol not in cls.__bases__:
                return type.__subclasscheck__(cls, kind)
            return all(hasattr(kind, name) for name in _members(cls))

    def _members(contract: type) -> tuple[str, ...]:
        """Names of all that a value must have, but for what begins with an underscore."""
        told = vars(contract).get("_members")
        if told is None:
            names = {
                name: None
                for kind in contract.__mro__
                if isinstance(kind, _Contract)
                for name in (*vars(kind).get("__annotations__", ()), *vars(kind))
                if not name.startswith("_")
            }
            told = contract._members = tuple(names)
        return told

    class Protocol(metaclass=_Contract):
        """As of `typing`, as a base class."""

        __slots__ = ()

    def runtime_checkable(contract: type) -> type:
        """As of `typing`: a type checker lets `isinstance` be asked of those alone."""
        return contract

    class TypedDict(dict):
        """As of `typing`, as a base class: the keys are in `__annotations__`."""

        def __init_subclass__(cls, *, total: bool = True) -> None:
            """`total`: whether none may be left out; that is a type checker's to know."""

    class TypeVar:
        """As of `typing`, where annotations stay the text that they are."""

        def __init__(self, name: str, *_: object, bound: object = None) -> None:
            self.__name__ = name

    class ParamSpec(TypeVar):
        """As of `typing`."""


__all__ = ["ParamSpec", "Protocol", "TypeVar", "TypedDict", "runtime_checkable"]
