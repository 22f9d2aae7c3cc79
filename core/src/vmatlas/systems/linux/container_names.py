"""What a container is called: from the files in which its manager keeps that. No daemon is asked, and no folder listed
that may be long: the numbers of the containers that have processes are known, from their cgroups."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator

from vmatlas.patience import Crew, Errand
from vmatlas.systems.posix import read_plain

_MOST = 8 << 20
"""Bytes of one file: the containers of a machine are in one (podman)."""
_MOST_NAMESPACES = 64
_SILENCE = 2.0
"""Seconds after which a file system that does not answer is left (a home folder may be on a server's)."""

DOCKER = ("/var/lib/docker/containers", "/var/snap/docker/common/var-lib-docker/containers")
"""A folder for each container, by its number, with config.v2.json: `Name`."""
CONTAINERD = ("/run/containerd/io.containerd.runtime.v2.task",)
"""NAMESPACE/NUMBER/config.json (the OCI runtime specification): the annotations of Kubernetes, and of nerdctl."""
PODMAN = ("/var/lib/containers/storage",)
"""DRIVER-containers/containers.json, of podman and of CRI-O: a list with `id` and `names`."""
_DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
_ANNOTATIONS = ("nerdctl/name", "io.kubernetes.cri.container-name")
_POD = "io.kubernetes.cri.sandbox-name"
_NONE = ("",)
"""Of a container whose files tell no name: it has none."""


def names_of(ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The names of containers, of those whose files can be read; one may have several, or none (a pod's own)."""
    wanted = frozenset(ids)
    if not wanted:
        return {}
    errand = Errand(lambda: _look_up(wanted))
    with Crew(1) as crew:
        return errand.answer() if errand.asked_by(crew, _SILENCE) else {}


def closed_folders() -> list[str]:
    """Of the folders where names are looked for, those that may not be read."""
    errand = Errand(_closed)
    with Crew(1) as crew:
        return errand.answer() if errand.asked_by(crew, _SILENCE) else []


def where_looked() -> str:
    """The folders where names are looked for, for people: those that there are."""
    errand = Errand(_where)
    with Crew(1) as crew:
        return errand.answer() if errand.asked_by(crew, _SILENCE) else "folders that do not answer"


def _there() -> list[str]:
    """Those that there are, and those that may be: docker lets root alone look below /var/lib/docker."""
    return [folder for folder in (*_docker(), *CONTAINERD, *_podman()) if _may_be_there(folder)]


def _may_be_there(folder: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(folder).st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def _closed() -> list[str]:
    return [folder for folder in _there() if not os.access(folder, os.R_OK | os.X_OK)]


def _where() -> str:
    found, closed = _there(), _closed()
    if not found:
        return "nothing: docker, podman and containerd keep none here"
    return ", ".join(found) + (f" (no right to read {', '.join(closed)}: try sudo)" if closed else "")


def _own(*below: str) -> str | None:
    """Where programs of this user keep their data; None where that is not told."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.environ.get("HOME", ""), ".local/share")
    return os.path.join(data, *below) if data.startswith("/") else None


def _docker() -> list[str]:
    return [folder for folder in (*DOCKER, _own("docker", "containers")) if folder is not None]


def _podman() -> list[str]:
    return [folder for folder in (*PODMAN, _own("containers", "storage")) if folder is not None]


def _look_up(ids: frozenset[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for number, name in (*_of_docker(ids), *_of_podman(ids), *_of_containerd(ids)):
        names = found.setdefault(number, [])
        if name and name not in names:
            names.append(name)
    return {number: tuple(names) for number, names in found.items()}


def _of_docker(ids: frozenset[str]) -> Iterator[tuple[str, str]]:
    for folder in _docker():
        for number in ids if os.path.isdir(folder) else ():
            match _json(os.path.join(folder, number, "config.v2.json")):
                case {"Name": str(name)}:
                    yield number, name.removeprefix("/")


def _of_podman(ids: frozenset[str]) -> Iterator[tuple[str, str]]:
    for folder in _podman():
        for driver in _DRIVERS:
            listed = _json(os.path.join(folder, f"{driver}-containers", "containers.json"))
            for each in listed if isinstance(listed, list) else ():
                match each:
                    case {"id": str(number), "names": [*names]} if number in ids:
                        yield from ((number, name) for name in names or _NONE if isinstance(name, str))


def _of_containerd(ids: frozenset[str]) -> Iterator[tuple[str, str]]:
    for folder in CONTAINERD:
        try:
            with os.scandir(folder) as entries:
                namespaces = [entry.path for entry, _ in zip(entries, range(_MOST_NAMESPACES), strict=False)]
        except OSError:
            continue
        for namespace in namespaces:
            for number in ids:
                match _json(os.path.join(namespace, number, "config.json")):
                    case {"annotations": {**told}}:
                        names = [name for key in _ANNOTATIONS if isinstance(name := told.get(key), str)]
                        pod = told.get(_POD)
                        yield from ((number, name) for name in names or (_NONE if pod else ()))
                        if names and isinstance(pod, str):
                            yield number, f"{pod}/{names[-1]}"


def _json(path: str) -> object:
    """What a file says; None where it cannot be read, is no plain file, is too long, or is not JSON."""
    try:
        text, _ = read_plain(path, _MOST)
        value: object = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return value
