"""Ansible's inventory, as `ansible-inventory --list` tells it: names, groups, and how each host is reached.

Of a host's variables five are looked at, and none is kept: they hold passwords.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from vmatlas.errors import Unsupported, UsageError, legible
from vmatlas_fleet.hosts import LARGEST, NOWHERE, Group, Host, check_name, is_target, memberships

SECONDS = 300.0
"""How long it may take: an inventory may be a program that asks a cloud."""


def listed(path: str) -> str:
    """What `ansible-inventory --list` says of a file, a folder or a program. Raises Unsupported, UsageError."""
    program = shutil.which("ansible-inventory")
    if program is None:
        raise Unsupported(
            "there is no ansible-inventory here",
            hint="where it is: ansible-inventory --list >FILE, which is an inventory as well",
        )
    if not path:
        raise UsageError("'ansible:' does not say which inventory", hint="for example ansible:/etc/ansible/hosts")
    try:
        done = subprocess.run(
            [program, "-i", path, "--list"], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"ansible-inventory did not list '{path}' in {SECONDS:g} s") from None
    if done.returncode or len(done.stdout) > LARGEST:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise UsageError(f"ansible-inventory could not list '{path}': {legible(said, 200) or done.returncode}")
    return done.stdout.decode("utf-8", "replace")


def hosts_of(told: Mapping[str, Any], where: str) -> Iterator[Host]:
    """The hosts of its list, sorted. Raises UsageError for what is none, or has a loop."""
    meta = told["_meta"]
    variables = meta.get("hostvars", {}) if isinstance(meta, dict) else None
    if not isinstance(variables, dict):
        raise UsageError(f"{where}: '_meta' is not what ansible-inventory gives")
    groups = {name: _group(name, each, where) for name, each in told.items() if name != "_meta"}
    for group in list(groups.values()):  # it leaves empty groups out
        for child in group.children:
            groups.setdefault(child, Group((), (), {}))
    inside = memberships(groups, where)
    for name in sorted({*variables, *(host for group in groups.values() for host in group.hosts)}):
        of_host = variables.get(name, {})
        yield _host(name, of_host if isinstance(of_host, dict) else {}, inside.get(name, NOWHERE).groups, where)


def _group(name: str, told: object, where: str) -> Group:
    hosts = told.get("hosts", []) if isinstance(told, dict) else None
    children = told.get("children", []) if isinstance(told, dict) else None
    if not (isinstance(hosts, list) and isinstance(children, list)) or not all(
        isinstance(each, str) for each in (*hosts, *children)
    ):
        raise UsageError(f"{where}: group '{legible(name, 60)}' is not what ansible-inventory gives")
    return Group(tuple(hosts), tuple(children), {})


def _host(name: str, told: Mapping[str, Any], groups: tuple[str, ...], where: str) -> Host:
    check_name(name, where)
    address = told.get("ansible_host", name)
    user = told.get("ansible_user", told.get("ansible_ssh_user", ""))
    port = told.get("ansible_port", told.get("ansible_ssh_port", ""))
    how = told.get("ansible_connection", "ssh")
    wanted = told.get("vmatlas_target")
    problem = ""
    if wanted is not None:
        if not isinstance(wanted, str) or not is_target(wanted):
            problem = "its vmatlas_target is no target"
        elif "{{" in wanted:
            problem = "its vmatlas_target is a template, which ansible-inventory does not fill in"
    elif any("{{" in str(each) for each in (address, user, port)):
        problem = "its address is a template, which ansible-inventory does not fill in: set vmatlas_target"
    elif how == "local":
        wanted = "local"
    elif how not in ("ssh", "smart", "paramiko", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh"):
        problem = f"Ansible reaches it by '{legible(str(how), 40)}', which is no ssh: set vmatlas_target"
    else:
        at = f"{user}@" if user else ""
        literal = f"[{address}]" if ":" in str(address) and port else address
        wanted = f"ssh:{at}{literal}" + (f":{port}" if port else "")
    return Host(name, "" if problem else str(wanted), groups, {}, problem)
