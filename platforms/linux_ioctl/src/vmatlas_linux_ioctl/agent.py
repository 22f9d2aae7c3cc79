"""What this plugin gives to agents: native/acquire.c, and how an agent is asked for the records."""

from __future__ import annotations

from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.model import Query
from vmatlas.systems.linux import links
from vmatlas.systems.linux.procmap import MAX_NAME, QueryFlags
from vmatlas.systems.linux.remote import read_streams, settle
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_linux_ioctl.decode import STAT, VMAS, split, texts
from vmatlas_linux_ioctl.question import kernel_flags

SOURCE = "linux.procmap_query"


def probe(process: RemoteProcess) -> Availability:
    """Whether the kernel there knows the ioctl: a question about one address of the agent's own."""
    try:
        process.streams(SOURCE)
    except AgentRefused as refused:
        if refused.errno_name == "ENOTTY":
            return Availability(False, "the kernel is older than 6.11: no PROCMAP_QUERY ioctl (ENOTTY)")
        return Availability(False, refused.message)
    return YES


def ask(process: RemoteProcess, query: Query) -> Reading:
    """The records and names of one walk, made on the machine itself."""
    walks = query.address is None or query.or_next
    streams = read_streams(
        process,
        SOURCE,
        VMAS,
        empty_means_gone=False,
        flags=int(kernel_flags(query.where) | (QueryFlags.COVERING_OR_NEXT if walks else QueryFlags(0))),
        address=query.address or 0,
        limit=query.limit_of_answer,
        build_ids=query.build_ids,
    )
    data = streams.get(VMAS, b"")
    if not data:
        return Reading({VMAS: b"", STAT: streams[STAT]})
    names, unnamed = _names_of(process, data)
    answers = {VMAS: data}
    if names:
        answers |= settle(process, names).streams()
    if not unnamed:
        return Reading(answers)
    why = f"the kernel tells no name longer than {MAX_NAME - 1:,} bytes: {unnamed} region(s) lack theirs"
    return Reading(answers, why)


def _names_of(process: RemoteProcess, data: bytes) -> tuple[list[links.OpenName], int]:
    """The names that only the file system can settle, and how many regions lack the name that they should have."""
    fields = split(data, process.system.byte_order)
    unnamed = 0
    names: list[links.OpenName] = []
    devices = zip(fields["dev_major"], fields["dev_minor"], strict=True)
    rows = zip(texts(fields, data)[0], fields["inode"], devices, fields["vma_start"], fields["vma_end"], strict=True)
    for name, inode, device, start, end in rows:
        unnamed += bool(inode and not name)
        if links.is_open(name, device):
            names.append(links.OpenName(name, inode, device, start, end))
    return names, unnamed


SOURCES = AgentSources(
    system="linux",
    files=tuple(Path(__file__).parents[2] / "native" / file for file in ("acquire.c", "walk.c")),
    table="vmatlas_linux_ioctl_sources",
    names=(SOURCE,),
    probe=probe,
    ask=ask,
)
