"""Queries that ship: SQL files, each with its purpose and its parameters in the comments that it begins with.

-- what it answers, in a line
--
-- when to ask, and what to make of the answer
--
-- $library = libssl: what it means
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

from vmatlas.errors import UsageError

_PARAMETER = re.compile(r"\$(\w+) = (.*?): (.*)")


class Parameter(NamedTuple):
    """What may be said of a query."""

    name: str
    default: str
    meaning: str


class Query(NamedTuple):
    """One of them."""

    name: str
    title: str
    purpose: str
    parameters: tuple[Parameter, ...]
    sql: str

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """Each parameter's value. Raises UsageError for one that it has not."""
        known = {each.name: each.default for each in self.parameters}
        for name in given:
            if name not in known:
                there = ", ".join(known) or "none"
                raise UsageError(f"the query {self.name} has no parameter '{name}'", hint=f"there are: {there}")
        return known | dict(given)


def names() -> list[str]:
    """Of all that ship, sorted."""
    found = (each.name for each in files(__package__).iterdir())
    return sorted(name.removesuffix(".sql") for name in found if name.endswith(".sql"))


def query(name: str) -> Query:
    """One. Raises UsageError."""
    if name not in names():
        raise UsageError(f"there is no query '{name}'", hint=f"there are {', '.join(names())}")
    text = files(__package__).joinpath(f"{name}.sql").read_text("utf-8")
    comments: list[str] = []
    sql: list[str] = []
    for line in text.splitlines():
        (comments if line.startswith("--") and not sql else sql).append(line)
    told = [line.removeprefix("--").strip() for line in comments]
    parameters = tuple(Parameter(*found.groups()) for line in told if (found := _PARAMETER.fullmatch(line)))
    purpose = " ".join(line for line in told[1:] if line and not line.startswith("$"))
    return Query(name, told[0], purpose, parameters, "\n".join(sql).strip())
