"""What this plugin gives to agents: native/acquire.c, and how an agent is asked for the records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.errors import Unanswered
from vmatlas.model import Query
from vmatlas.systems.linux import links
from vmatlas.systems.linux.mounts import Numbers
from vmatlas.systems.linux.procmap import QueryFlags
from vmatlas.systems.linux.remote import read_streams, settle, silent
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_linux_ioctl.decode import STAT, VMAS, split, texts
from vmatlas_linux_ioctl.question import kernel_flags, of_files, what_lacks

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
    """The records and names of one walk, made on the machine itself.

    For a build id the kernel there reads the file: where the file system of one may not answer, none is asked for. And
    somebody asks who can be left behind, since the process may map another file before the kernel reads it.
    """
    not_asked: Mapping[Numbers, str] = {}
    found: list[links.OpenName] = []
    if query.build_ids:
        found = _names_of(process, _streams(process, query, build_ids=False).get(VMAS, b""))
        not_asked = silent(process, {each.device for each in of_files(found)})
    streams: Mapping[str, bytes] | None = None
    if query.build_ids and not not_asked:
        try:
            with process.apart() as other:
                streams = _streams(other, query, build_ids=True)
        except Unanswered:
            not_asked = {each.device: "one that did not answer" for each in of_files(found)}
    if streams is None:
        streams = _streams(process, query, build_ids=False)
    data = streams.get(VMAS, b"")
    if not data:
        return Reading({VMAS: b"", STAT: streams[STAT]})
    found = _names_of(process, data)
    answers = {VMAS: data}
    if names := [each for each in found if links.is_open(each.name, each.device)]:
        answers |= settle(process, names).streams()
    everywhere = dict.fromkeys((each.device for each in found), ", ".join(sorted(set(not_asked.values()))))
    return Reading(answers, what_lacks(found, everywhere if not_asked else {}))


def _streams(process: RemoteProcess, query: Query, *, build_ids: bool) -> Mapping[str, bytes]:
    walks = query.address is None or query.or_next
    return read_streams(
        process,
        SOURCE,
        VMAS,
        empty_means_gone=False,
        flags=int(kernel_flags(query.where) | (QueryFlags.COVERING_OR_NEXT if walks else QueryFlags(0))),
        address=query.address or 0,
        limit=query.limit_of_answer,
        build_ids=build_ids,
    )


def _names_of(process: RemoteProcess, data: bytes) -> list[links.OpenName]:
    """The name of each region, its inode and device, and its bounds."""
    if not data:
        return []
    fields = split(data, process.system.byte_order)
    devices = zip(fields["dev_major"], fields["dev_minor"], strict=True)
    rows = zip(texts(fields, data)[0], fields["inode"], devices, fields["vma_start"], fields["vma_end"], strict=True)
    return [links.OpenName(*row) for row in rows]


SOURCES = AgentSources(
    system="linux",
    files=tuple(Path(__file__).parents[2] / "native" / file for file in ("acquire.c", "walk.c")),
    table="vmatlas_linux_ioctl_sources",
    names=(SOURCE,),
    probe=probe,
    ask=ask,
)
