"""Which system's plugins serve a machine, by what its uname says: derived systems have a name of their own.

A distribution declares one by registering the `System` of another under that name, in the group `vmatlas.systems`; a
user by the environment variable. Nothing is guessed from a name.
"""

from __future__ import annotations

import os

from vmatlas import registry
from vmatlas.errors import UsageError

_OF_THEIR_OWN = frozenset({"linux", "freebsd", "netbsd", "qnx", "darwin"})
"""Nobody's derivatives: what is registered under them need not be loaded to know whose it is."""

VARIABLE = "VMATLAS_ALIASES"
"""NAME=SYSTEM, several with commas: "examplebsd=freebsd"."""


def system_called(word: str) -> str:
    """The name of the system that serves what uname calls `word`; the word in small letters where none is declared.

    Raises UsageError for a variable that is not understood, Unsupported for a plugin that cannot be loaded.
    """
    name = word.lower()
    declared = _declared()
    if name in declared:
        return declared[name]
    if name not in _OF_THEIR_OWN and name in registry.entries(registry.SYSTEMS):
        return registry.system(name).name
    return name


def _declared() -> dict[str, str]:
    text = os.environ.get(VARIABLE, "")
    pairs = [pair.partition("=") for pair in text.lower().replace(" ", "").split(",") if pair]
    for name, _, system in pairs:
        if not name or not system or (name != system and {name, system} <= _OF_THEIR_OWN):
            raise UsageError(
                f"{VARIABLE} is '{text}', which names no derived systems", hint=f"{VARIABLE}=examplebsd=freebsd, say"
            )
    return {name: system for name, _, system in pairs}
