"""Which hosts there are: from a file of our own, from Ansible's list, from lines on standard input. Asks nobody."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from vmatlas.errors import UsageError, legible
from vmatlas.plain_yaml import read_yaml
from vmatlas.systems.posix import read_plain
from vmatlas.target.connect import words
from vmatlas_fleet.ansible import hosts_of, listed
from vmatlas_fleet.hosts import LARGEST, NOWHERE, Group, Host, Membership, check_name, is_target, memberships


@dataclass(frozen=True, slots=True)
class Inventory:
    """The hosts, each once, in the order in which they were named."""

    hosts: tuple[Host, ...]

    def limited(self, patterns: Sequence[str]) -> Inventory:
        """Those whose name or a group of which fits a pattern (`*`, `?`, `[...]`). Raises UsageError for no host."""
        from fnmatch import fnmatchcase

        if not patterns:
            return self
        for pattern in patterns:
            if not any(fnmatchcase(word, pattern) for host in self.hosts for word in (host.name, *host.groups)):
                raise UsageError(f"--hosts '{pattern}' fits no host nor group of the inventory")
        return Inventory(
            tuple(
                host
                for host in self.hosts
                if any(fnmatchcase(word, each) for each in patterns for word in (host.name, *host.groups))
            )
        )


def read(source: str, standard_input: TextIO | None = None) -> Inventory:
    """The inventory of a file; of `-`, standard input: lines, or what `ansible-inventory --list` writes; or of
    `ansible:PATH`, which runs that program.

    Raises UsageError for what is no inventory, OSError for the file, Unsupported where there is no Ansible.
    """
    if source.startswith("ansible:"):
        return of_mapping(_json(listed(source.removeprefix("ansible:")), source), source)
    if source == "-":
        text = "" if standard_input is None else standard_input.read(LARGEST + 1)
        _check_size(len(text), "standard input")
        named = "standard input"
        return of_mapping(_json(text, named), named) if text.lstrip().startswith("{") else of_lines(text, named)
    try:
        content, _ = read_plain(source, LARGEST + 1)
    except ValueError:
        raise UsageError(f"{source} is no regular file", hint="- reads an inventory from standard input") from None
    _check_size(len(content), source)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is no text: byte {error.start} is not UTF-8") from None
    if text.lstrip().startswith("{"):  # what ansible-inventory wrote; YAML may begin so as well
        with contextlib.suppress(UsageError):
            return of_mapping(_json(text, source), source)
    return of_mapping(read_yaml(text, source), source)


def _check_size(size: int, where: str) -> None:
    if size > LARGEST:
        raise UsageError(f"{where}: an inventory has at most {LARGEST:,} bytes")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: no JSON: {legible(str(error))}") from None


# ---- lines ----


def of_lines(text: str, where: str) -> Inventory:
    """A target's URL in each line, or a name and a URL. Empty lines and what follows `#` at their beginning are passed
    over. Raises UsageError, with the line."""
    hosts: dict[str, Host] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        at = f"{where}, line {number}"
        first, _, rest = line.partition(" ")
        if is_target(line) and not (rest and is_target(rest.strip())):
            name, target = _name_of(line, at), line
        elif is_target(rest.strip()):
            name, target = first, rest.strip()
        else:
            raise UsageError(f"{at}: '{legible(line, 60)}' is no target", hint=_HINT)
        check_name(name, at)
        if name in hosts:
            raise UsageError(f"{at}: a second host '{name}'", hint="give each a name of its own: NAME URL")
        hosts[name] = Host(name, target)
    return _checked(hosts.values(), where)


_HINT = "a line is URL or NAME URL, as: web-1 ssh:root@10.0.0.1"


def _name_of(target: str, at: str) -> str:
    """What a host is called whose URL stands alone."""
    scheme, _, rest = target.partition(":")
    if scheme == "agent":  # a command, which may hold a password
        raise UsageError(f"{at}: a command has no name", hint="give the host one: NAME agent:COMMAND")
    return (rest.partition("?")[0].rpartition("@")[2] if scheme == "ssh" else rest) or target


# ---- mappings ----


def of_mapping(told: object, where: str) -> Inventory:
    """Of our own form, or of what `ansible-inventory --list` gives. Raises UsageError."""
    if not isinstance(told, dict):
        raise UsageError(f"{where}: no inventory", hint="it has 'hosts:', and perhaps 'groups:'; see docs/fleet.md")
    if "_meta" in told:
        return _checked(hosts_of(told, where), where)
    if isinstance(told.get("all"), dict):
        raise UsageError(f"{where}: this is Ansible's own form", hint=f"Ansible reads it: ansible:{where}")
    if unknown := [key for key in told if key not in ("hosts", "groups")]:
        raise UsageError(f"{where}: '{legible(str(unknown[0]), 60)}' is no part of an inventory", hint="hosts, groups")
    groups = {name: _group_of(name, value, where) for name, value in _named(told.get("groups"), f"{where}, groups")}
    inside = memberships(groups, where)
    hosts = {
        name: _host_of(name, value, inside.get(name, NOWHERE), where)
        for name, value in _named(told.get("hosts"), f"{where}, hosts")
    }
    for name, group in groups.items():
        for host in group.hosts:
            if host not in hosts:
                at = f"{where}, group '{name}'"
                check_name(host, at)
                hosts[host] = _host_of(host, None, inside[host], at)
    return _checked(hosts.values(), where)


def _named(value: object, where: str) -> Iterator[tuple[str, object]]:
    """A mapping by names, or a list of names."""
    if value is None:
        return
    if isinstance(value, list):
        value = dict.fromkeys(_names(value, where))
    if not isinstance(value, dict):
        raise UsageError(f"{where}: a mapping or a list of names is needed")
    for name, each in value.items():
        check_name(name, where)
        yield name, each


def _names(value: object, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"{where}: a list of names is needed")
    if len(set(value)) != len(value):
        twice = next(each for number, each in enumerate(value) if each in value[:number])
        raise UsageError(f"{where}: '{legible(twice, 60)}' twice")
    return list(value)


def _host_of(name: str, value: object, inside: Membership, where: str) -> Host:
    """One whose name was looked at."""
    if value is None:
        return Host(name, f"ssh:{name}", inside.groups, inside.labels)
    if isinstance(value, str) and is_target(value):
        return Host(name, value, inside.groups, inside.labels)
    at = f"{where}, host '{name}'"
    if isinstance(value, str):
        value = {"target": value}
    if not isinstance(value, dict) or (unknown := set(value) - {"target", "labels"}):
        what = (
            f"'{legible(str(sorted(map(str, unknown))[0]), 60)}' is unknown" if isinstance(value, dict) else "no host"
        )
        raise UsageError(f"{at}: {what}", hint="a URL, or target: and labels:")
    target = value.get("target", f"ssh:{name}")
    labels = _labels(value.get("labels"), at)
    return Host(name, _target(target, at), inside.groups, {**inside.labels, **labels} if labels else inside.labels)


def _target(value: object, at: str) -> str:
    if not isinstance(value, str) or not is_target(value):
        raise UsageError(f"{at}: its target is none", hint=f"targets begin with: local, {', '.join(words())}")
    return value


def _labels(value: object, at: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(each, (str, int, float, bool)) for key, each in value.items()
    ):
        raise UsageError(f"{at}: labels are words with a text or a number each")
    return {key: str(each) for key, each in value.items()}


def _group_of(name: str, value: object, where: str) -> Group:
    at = f"{where}, group '{name}'"
    if isinstance(value, list):
        return Group(tuple(_names(value, at)), (), {})
    if value is None:
        return Group((), (), {})
    if not isinstance(value, dict) or set(value) - {"hosts", "groups", "labels"}:
        raise UsageError(f"{at}: no group", hint="a list of hosts, or hosts:, groups: and labels:")
    hosts = tuple(_names(value.get("hosts"), f"{at}, hosts"))
    return Group(hosts, tuple(_names(value.get("groups"), f"{at}, groups")), _labels(value.get("labels"), at))


def _checked(hosts: Iterable[Host], where: str) -> Inventory:
    found = tuple(hosts)
    if not found:
        raise UsageError(f"{where}: no host in it")
    return Inventory(found)
