"""Properties that are found out when they are first asked for, and kept. No I/O of its own.

`functools.cached_property` of Python 3.11 holds one lock for all objects of a class while it finds out: where that is a
question to a machine or a process, whoever asks another one waits as well, and for ever where the first is silent. That
of 3.12 holds none; this is the same for all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from functools import cached_property as cached_property
    from typing import Any
else:

    class cached_property:  # noqa: N801 (called as the library's)
        """As of `functools`. Where several threads ask first at once, each finds out, and the first answer is kept."""

        def __init__(self, function: Callable[[Any], Any]) -> None:
            self.func = function
            self.attrname = function.__name__
            self.__doc__ = function.__doc__

        def __set_name__(self, _: type, name: str) -> None:
            self.attrname = name

        def __get__(self, instance: object, _: type | None = None) -> Any:
            return self if instance is None else instance.__dict__.setdefault(self.attrname, self.func(instance))
