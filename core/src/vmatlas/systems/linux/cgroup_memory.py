"""The counters of a cgroup: where its hierarchy is mounted here, and what its files say.

Source: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst. They are the kernel's own files, for which nobody
waits; what lies over them (another mount) is not read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from vmatlas.model.cgroup import CgroupMemory
from vmatlas.systems.linux.mounts import Mount, read
from vmatlas.systems.linux.proc import read_own

_MOST = 1 << 16
"""Bytes of one file: memory.stat has some 3,000."""


def cgroup_memories(paths: Sequence[str]) -> list[CgroupMemory]:
    """The counters of cgroups, by their paths in the hierarchy that counts memory; or why they are not told."""
    mount = _mount()
    return [_memory(path, mount) for path in paths]


def _memory(path: str, mount: Mount | None) -> CgroupMemory:
    if mount is None:
        return CgroupMemory(path, untold="no hierarchy of cgroups that could count memory is mounted here")
    folder = _folder(mount, path)
    if folder is None:
        return CgroupMemory(
            path, untold="it lies outside of the cgroups that are mounted here: another cgroup namespace"
        )
    if mount.type == b"cgroup2":
        return of_v2(path, _files(folder, mount, ("memory.current", "memory.stat", "memory.swap.current")))
    return of_v1(path, _files(folder, mount, ("memory.usage_in_bytes", "memory.stat", "memory.kmem.usage_in_bytes")))


def own_folder(path: str) -> str:
    """The cgroup of a folder below where a hierarchy is mounted; any other path is one already."""
    for mount in sorted(_cgroup_mounts(), key=lambda mount: -len(mount.point)):
        point = os.fsdecode(mount.point)
        if path == point or path.startswith(f"{point}/"):
            return os.fsdecode(mount.root).rstrip("/") + "/" + path[len(point) :].strip("/")
    return path


def _cgroup_mounts() -> list[Mount]:
    return [mount for mount in read(read_own("mountinfo")) if mount.type in (b"cgroup", b"cgroup2")]


def _mount() -> Mount | None:
    """Where memory is counted: v1, where its controller is mounted there; else v2."""
    mounts = _cgroup_mounts()
    v1 = [mount for mount in mounts if mount.type == b"cgroup" and b"memory" in mount.options.split(b",")]
    v2 = [mount for mount in mounts if mount.type == b"cgroup2"]
    return next(iter(v1 or v2), None)


def _folder(mount: Mount, path: str) -> str | None:
    """The folder of a cgroup; None where it is not below what is mounted."""
    parts, root = path.strip("/").split("/"), os.fsdecode(mount.root).strip("/")
    if ".." in parts:
        return None
    if root:
        if path.strip("/") != root and not path.strip("/").startswith(f"{root}/"):
            return None
        parts = path.strip("/")[len(root) :].strip("/").split("/")
    return os.path.join(os.fsdecode(mount.point), *parts)


def _files(folder: str, mount: Mount, names: tuple[str, ...]) -> Mapping[str, str]:
    """Its files, of those that there are."""
    found: dict[str, str] = {}
    try:
        held = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        device = os.fstat(held).st_dev
        if (os.major(device), os.minor(device)) != mount.device:
            return found
        for name in names:
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=held)
            except OSError:
                continue
            try:
                found[name] = os.read(descriptor, _MOST).decode("ascii", "replace")
            except OSError:  # it has been removed meanwhile
                pass
            finally:
                os.close(descriptor)
    finally:
        os.close(held)
    return found


def of_v2(path: str, files: Mapping[str, str]) -> CgroupMemory:
    """From the files of cgroup v2."""
    current, told = _number(files.get("memory.current", "")), _numbers(files.get("memory.stat", ""))
    if current is None and not told:
        why = "the root has no counters" if path == "/" else "it is gone, or cgroup v2 has no memory controller there"
        return CgroupMemory(path, untold=why)
    return CgroupMemory(
        path,
        current,
        told.get("anon"),
        told.get("file"),
        told.get("file_mapped"),
        told.get("shmem"),
        told.get("kernel"),
        told.get("slab"),
        told.get("sock"),
        _number(files.get("memory.swap.current", "")),
    )


def of_v1(path: str, files: Mapping[str, str]) -> CgroupMemory:
    """From the files of cgroup v1: those numbers that count what is below, too."""
    current, told = _number(files.get("memory.usage_in_bytes", "")), _numbers(files.get("memory.stat", ""))
    if current is None and not told:
        return CgroupMemory(path, untold="it is gone, or may not be read")
    return CgroupMemory(
        path,
        current,
        told.get("total_rss"),
        told.get("total_cache"),
        told.get("total_mapped_file"),
        told.get("total_shmem"),
        _number(files.get("memory.kmem.usage_in_bytes", "")),
        swapped=told.get("total_swap"),
    )


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _numbers(text: str) -> dict[str, int]:
    """Lines `NAME NUMBER`."""
    pairs = (line.partition(" ") for line in text.split("\n"))
    return {name: value for name, _, told in pairs if (value := _number(told)) is not None}
