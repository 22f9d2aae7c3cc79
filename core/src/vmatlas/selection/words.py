"""The words that choose processes: one grammar, for the API and the command line. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from vmatlas.errors import UsageError

KEYS = {
    "pid": "the process of a number: pid:1234, or 1234 alone",
    "name": "by its name, or its program's: name:postgres, 'name:postgres*'",
    "user": "whose rights it has: user:www-data, user:33",
    "children": "a process and the tree below it: children:1234",
    "cgroup": "a cgroup and those below it: cgroup:/system.slice",
    "unit": "a unit of systemd: unit:nginx.service, 'unit:postgresql@*'",
    "container": "a container, by its name or number: container:web, container:4f797c539e6c",
    "pidfile": "the process whose number a file holds: pidfile:/run/nginx.pid",
}
"""What stands before the colon, and what it chooses."""

SELF, ALL = "self", "all"
"""The process that asks (elsewhere the agent), and every process."""

_MOST_DIGITS = 100
"""Python makes no number of a few thousand digits, and nobody reads an error with them."""

_PREFIXED = re.compile(r"!*([a-z]+):(.*)", re.DOTALL)


class Word(NamedTuple):
    """One word."""

    key: str
    """One of KEYS, SELF or ALL."""
    value: str = ""
    excluded: bool = False
    """Those that it chooses are left out of what the others choose."""

    @property
    def is_pattern(self) -> bool:
        """Whether it says what processes are like, and not which: then the one who asks is not meant."""
        return self.key not in (SELF, ALL, "pid", "pidfile")

    @property
    def may_choose_others(self) -> bool:
        """Whether whom it chooses goes by who there is, and so may be somebody else later."""
        return self.is_pattern or self.key == ALL

    def __str__(self) -> str:
        text = self.key if self.key in (SELF, ALL) else self.value if self.key == "pid" else f"{self.key}:{self.value}"
        return f"!{text}" if self.excluded else text


def is_word(text: str) -> bool:
    """Whether a text is one of these words, right or wrong; anything else may be a file."""
    if text.startswith("!") or text in (SELF, ALL) or _is_number(text):
        return True
    prefixed = _PREFIXED.fullmatch(text)
    return prefixed is not None and prefixed[1] in KEYS


def parse(text: str) -> Word:
    """One word. Raises UsageError, which says what may have been meant."""
    excluded = text.startswith("!")
    plain = text[1:] if excluded else text
    if plain in (SELF, ALL):
        return Word(plain, "", excluded)
    if _is_number(plain):
        return Word("pid", _number(plain), excluded)
    prefixed = _PREFIXED.fullmatch(plain)
    if prefixed is None or plain.startswith("!"):
        raise UsageError(f"'{text}' is no process id", hint=_instead(plain))
    key, value = prefixed.groups()
    if key not in KEYS:
        raise UsageError(f"processes are not chosen by '{key}:'", hint="there are " + ", ".join(f"{k}:" for k in KEYS))
    if not value:
        raise UsageError(f"'{text}' says not which", hint=KEYS[key])
    if "\0" in value:
        raise UsageError(f"'{key}:' with a byte 0 in it chooses nobody")
    if key == "pid" or (key == "children" and value != SELF):
        if not _is_number(value):
            raise UsageError(f"'{value}' in '{text}' is no process id", hint=KEYS[key])
        value = _number(value)
    return Word(key, value, excluded)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str) -> str:
    """Without zeros before it. Raises UsageError."""
    if len(text) > _MOST_DIGITS:
        raise UsageError(f"a number of {len(text)} digits is no process id")
    return str(int(text))


def _instead(text: str) -> str:
    if text and text.isprintable() and len(text) < _MOST_DIGITS and ":" not in text:
        return f"give a number or 'self'; by its name: name:{text}"
    return "give a number, 'self', 'all', or one of " + ", ".join(f"{key}:" for key in KEYS)


@dataclass(frozen=True, slots=True)
class Selection:
    """Words that choose processes together: each process once that one of them chooses, but those that are left out."""

    words: tuple[Word, ...]

    @classmethod
    def of(cls, *texts: str) -> Selection:
        """From their texts. Raises UsageError."""
        if not texts:
            raise UsageError("no process is named", hint=_instead(""))
        return cls(tuple(map(parse, texts)))

    @property
    def chosen(self) -> tuple[Word, ...]:
        """The words that choose: all processes where there are only others."""
        return tuple(word for word in self.words if not word.excluded) or (Word(ALL),)

    @property
    def left_out(self) -> tuple[Word, ...]:
        """The words that leave processes out."""
        return tuple(word for word in self.words if word.excluded)

    @property
    def may_choose_others(self) -> bool:
        """Whether one of the words may choose somebody else later."""
        return any(word.may_choose_others for word in self.chosen)

    def __str__(self) -> str:
        return " ".join(map(str, self.words))
