"""A C library of a test's own making, for what asks a kernel through ctypes: what reaches it, and what it answers.

A plugin that takes its libc as a value (`PosixCalls(libc)`) is given a `ScriptedLibc`; one that reads by sysctl(3), a
`ScriptedSysctl`. So the numbers that would reach a system are held to its headers on a machine that has another one,
and each errno is met. Arguments and results pass through the types of ctypes, which turn 0 into None and -1 into
MAP_FAILED as they would there. Nothing here makes a call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

_INT = range(-(2**31), 2**32)
"""What ctypes passes whole where it was told no type: a C int."""


class Fails(NamedTuple):
    """An answer: the call leaves this errno, and returns -1 (MAP_FAILED, where an address is returned)."""

    errno: int


Answer = int | Fails | Callable[..., int]
"""What a function returns; or its failure; or what is called in its place, with the same arguments."""


class ScriptedLibc:
    """Keeps each call in `calls`, as (name, arguments...), and answers it; with 0 where no answer is given.

    `answers`: by the name of a function: its answer, or a list of answers, one for each call. `system_calls`: the
    same for syscall(2), by the number. `lacking`: functions that this library does not have.
    """

    def __init__(
        self,
        *,
        lacking: Collection[str] = (),
        system_calls: Mapping[int, Answer | list[Answer]] | None = None,
        **answers: Answer | list[Answer],
    ) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._lacking = lacking
        self._answers, self._system_calls = answers, system_calls or {}
        self._functions: dict[str, _Function] = {}

    def __getattr__(self, name: str) -> _Function:
        if name.startswith("__") or name in self._lacking:
            raise AttributeError(name)
        return self._functions.setdefault(name, _Function(name, self))

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> int:
        self.calls.append((name, *arguments))
        answer = self._system_calls.get(arguments[0], 0) if name == "syscall" else self._answers.get(name, 0)
        if isinstance(answer, list):
            assert answer, f"{name} was called more often than it has answers"
            answer = answer.pop(0)
        if isinstance(answer, Fails):
            ctypes.set_errno(answer.errno)
            return -1
        return answer(*arguments) if callable(answer) else answer


class _Function:
    """One function, with the types that its caller sets, as ctypes has them."""

    def __init__(self, name: str, libc: ScriptedLibc) -> None:
        self._name, self._libc = name, libc
        self.restype: Any = ctypes.c_int
        self.argtypes: list[Any] = []

    def __call__(self, *arguments: Any) -> Any:
        typed = [kind(each) for kind, each in zip(self.argtypes, arguments, strict=False)]
        given = tuple(self._plain(each) for each in [*typed, *arguments[len(typed) :]])
        return self.restype(self._libc._answer(self._name, given)).value

    def _plain(self, argument: Any) -> Any:
        untyped = isinstance(argument, int)
        assert not untyped or argument in _INT, f"{self._name}: {argument:#x} has no type, so C is given an int of it"
        return getattr(argument, "value", argument)


class ScriptedSysctl:
    """sysctl(3) of a libc, for reading alone: a class of the test's says what there is (`value`)."""

    def __init__(self, too_small: int) -> None:
        """`too_small`: the errno of this system for room that does not hold the whole value."""
        self.calls: list[tuple[int, ...]] = []
        """The name of each value that was asked for."""
        self._too_small = too_small

    def value(self, mib: tuple[int, ...], reading: bool) -> bytes | int:
        """What stands under a name, or an errno; `reading`: it is read, and not just asked for its size."""
        raise NotImplementedError

    def sysctl(self, mib: Any, count: Any, room: Any, size: Any, new: Any, new_size: Any) -> int:
        """As libc has it: without room the size, with too little the beginning and an errno."""
        name = tuple(mib)
        assert (count.value, new, new_size.value) == (len(name), None, 0), "it only ever reads"
        self.calls.append(name)
        value = self.value(name, room is not None)
        if isinstance(value, int):
            ctypes.set_errno(value)
            return -1
        given, size._obj.value = size._obj.value, len(value)
        if room is None:
            return 0
        ctypes.memmove(room, value, min(len(value), given))
        if given < len(value):
            ctypes.set_errno(self._too_small)
            return -1
        return 0
