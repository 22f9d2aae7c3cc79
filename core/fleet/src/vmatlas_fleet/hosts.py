"""What an inventory is made of: hosts, groups, and names that either may have. Pure.

What an inventory says beside the hosts, their groups and their labels (Ansible's variables above all, which hold
passwords) is not kept: nothing of it can get into a data set. A target's URL may hold a secret too (`agent:COMMAND`):
it stays in memory, and `Host.clean` takes it out of what is written down.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from vmatlas.errors import UsageError, legible
from vmatlas.target.connect import words

LARGEST = 1 << 26
"""Bytes of an inventory: a million hosts have some 50 MB."""

_LONGEST_NAME = 120
"""Bytes of a host's name: as the name of a folder each may take three letters, and such a name has 255 at most."""
_SHORTEST_SECRET = 4
"""Letters of a word of a command that is taken out of texts: shorter ones stand everywhere by chance."""


@dataclass(frozen=True, slots=True)
class Host:
    """One machine to be asked."""

    name: str
    """What it is called in the data set."""
    target: str = field(repr=False)
    """A URL as `vmatlas.connect` takes it; empty where `problem` says why there is none."""
    groups: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why it cannot be asked at all; empty where it can."""

    @property
    def scheme(self) -> str:
        """The word that its URL begins with: "ssh"."""
        return self.target.partition(":")[0]

    def clean(self, text: str) -> str:
        """Somebody's words without the target's URL, and without the arguments of a command in it."""
        scheme, _, rest = self.target.partition(":")
        if not rest:
            return text
        text = text.replace(self.target, self.name).replace(rest, self.name)
        if scheme == "agent":
            for word in _arguments_of(rest):
                text = text.replace(word, "***")
        return text


def _arguments_of(command: str) -> list[str]:
    """The longest first: one may be a part of another. Of an option with a value the value alone, too."""
    try:
        _, *arguments = shlex.split(command)
    except ValueError:
        arguments = command.split()[1:]
    found = {each for word in arguments for each in (word, word.rpartition("=")[2])}
    return sorted((each for each in found if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)


class Group(NamedTuple):
    """What an inventory says of a group."""

    hosts: tuple[str, ...]
    children: tuple[str, ...]
    labels: Mapping[str, str]


def is_target(text: str) -> bool:
    """Whether it is a URL that `vmatlas.connect` may take."""
    return text == "local" or text.startswith(_USUAL) or text.startswith(tuple(words()))


_USUAL = ("ssh:", "tcp:")
"""What nearly all begin with: which others are installed is looked up for the rest alone."""


def check_name(name: object, where: str) -> None:
    """Raises UsageError for what cannot be the name of a host or a group."""
    if (
        not isinstance(name, str)
        or not name
        or not name.isprintable()
        or (4 * len(name) > _LONGEST_NAME and len(name.encode("utf-8", "replace")) > _LONGEST_NAME)
    ):
        shown = legible(str(name), 60)
        raise UsageError(
            f"{where}: '{shown}' is no name",
            hint=f"a name is text that prints, of at most {_LONGEST_NAME} bytes (in YAML 'on' and 0123 are none)",
        )


class Membership(NamedTuple):
    """What a host has of its groups. Hosts of the same groups share one: an inventory has few."""

    groups: tuple[str, ...]
    """Those that it is in, and those that hold these too, by name."""
    labels: Mapping[str, str]
    """Theirs, the innermost's last."""


NOWHERE = Membership((), {})
"""Of a host in no group."""


def memberships(groups: Mapping[str, Group], where: str) -> dict[str, Membership]:
    """Of each host that is in a group. Raises UsageError for a group that holds itself, or is not there."""
    parents: dict[str, list[str]] = {name: [] for name in groups}
    for name, group in groups.items():
        for child in group.children:
            if child not in groups:
                raise UsageError(f"{where}, group '{name}': there is no group '{legible(child, 60)}'")
            parents[child].append(name)
    order = _outermost_first(groups, where)
    above: dict[str, dict[str, None]] = {}
    inherited: dict[str, dict[str, str]] = {}
    named_in: dict[str, tuple[str, ...]] = {}
    for name in order:
        above[name] = dict.fromkeys([each for parent in parents[name] for each in above[parent]]) | {name: None}
        inherited[name] = {}
        for parent in parents[name]:
            inherited[name] |= inherited[parent]
        inherited[name] |= groups[name].labels
        alone, longer = (name,), dict[tuple[str, ...], tuple[str, ...]]()
        for host in groups[name].hosts:
            before = named_in.get(host)
            named_in[host] = alone if before is None else longer.setdefault(before, (*before, name))
    made: dict[tuple[str, ...], Membership] = {}
    for names in set(named_in.values()):
        held: dict[str, None] = {}
        labels: dict[str, str] = {}
        for name in names:
            held |= above[name]
            labels |= inherited[name]
        made[names] = Membership(tuple(sorted(held)), labels)
    return {host: made[names] for host, names in named_in.items()}


def _outermost_first(groups: Mapping[str, Group], where: str) -> list[str]:
    """Every group before those that it holds. Raises UsageError for a loop, which is named."""
    from graphlib import CycleError, TopologicalSorter

    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(groups, ()))
    for name, group in groups.items():
        for child in group.children:
            sorter.add(child, name)
    try:
        return list(sorter.static_order())
    except CycleError as error:
        loop = " holds ".join(f"'{legible(each, 60)}'" for each in error.args[1][:8])
        raise UsageError(f"{where}: a group holds itself: {loop}") from None
