"""What this plugin gives to agents: native/acquire.c, and how an agent is asked for the text."""

from __future__ import annotations

from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.model import Query
from vmatlas.systems.linux import links
from vmatlas.systems.linux.naming import may_be_ambiguous
from vmatlas.systems.linux.remote import read_streams, settle
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_linux_procfs.acquire import OPEN_NAME
from vmatlas_linux_procfs.decode import ESCAPE, MAPS, SMAPS, STAT


def probe(process: RemoteProcess) -> Availability:
    """Whether /proc is mounted there and tells of the agent."""
    try:
        process.streams("linux.maps")
    except AgentRefused as refused:
        return Availability(False, f"{refused.message}; is /proc mounted there?")
    return YES


def ask(process: RemoteProcess, query: Query) -> Reading:
    """The text, whole, with the file system's answer for the names that only it can settle."""
    name = SMAPS if query.residency else MAPS
    streams = read_streams(process, f"linux.{name}", name, empty_means_gone=True)
    text = streams[name]
    if not text:
        return Reading({name: text, STAT: streams[STAT]})
    names = _open_names(process, text)
    return Reading({name: text, links.STREAM: settle(process, names)} if names else {name: text})


def _open_names(process: RemoteProcess, text: bytes) -> list[links.Name]:
    if b" (deleted)\n" not in text and ESCAPE not in text:
        return []
    shown: dict[tuple[bytes, int], bytes] = {}
    for bounds, inode, escaped in OPEN_NAME.findall(text):
        shown.setdefault((escaped, int(inode)), bounds)
    names = [(_exact(process, escaped, bounds), inode) for (escaped, inode), bounds in shown.items()]
    return [each for each in names if may_be_ambiguous(each[0]) or ESCAPE in each[0]]


def _exact(process: RemoteProcess, escaped: bytes, bounds: bytes) -> bytes:
    """The name with nothing escaped; where it cannot be asked for, each escape is taken for a newline."""
    if ESCAPE in escaped:
        try:
            exact = process.read_link(b"/proc/%d/map_files/%s" % (process.pid, bounds))
        except AgentRefused:  # it takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN
            exact = b""
        if exact.replace(b"\n", ESCAPE) == escaped:
            return exact
    return escaped.replace(ESCAPE, b"\n")


SOURCES = AgentSources(
    system="linux",
    files=tuple(Path(__file__).parents[2] / "native" / file for file in ("acquire.c", "text_file.c")),
    table="vmatlas_linux_procfs_sources",
    names=("linux.maps", "linux.smaps"),
    probe=probe,
    ask=ask,
)
