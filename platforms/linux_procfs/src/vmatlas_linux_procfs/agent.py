"""What this plugin gives to agents: native/acquire.c, and how an agent is asked for the text."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.errors import MalformedData, Unsupported
from vmatlas.model import Query
from vmatlas.systems.linux.proc import told_by
from vmatlas.systems.linux.remote import living_folder, read_streams, settle
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_linux_procfs.decode import MAPS, SMAPS, STAT
from vmatlas_linux_procfs.emulated import without_repeats
from vmatlas_linux_procfs.open_names import open_names
from vmatlas_linux_procfs.rollup import ROLLUP
from vmatlas_linux_procfs.unlisted import READINGS, UNLISTED, lines_of, untold


def probe(process: RemoteProcess) -> Availability:
    """Whether /proc is mounted there and tells of the agent."""
    try:
        process.streams("linux.maps")
    except AgentRefused as refused:
        return Availability(False, f"{refused.message}; is /proc mounted there?")
    return YES


def ask(process: RemoteProcess, query: Query) -> Reading:
    """The text, whole, with what its holes hold, and the file system's answer for the names that only it can settle."""
    if query.totals:
        if process.emulator is not None:
            raise Unsupported(told_by(process.emulator), pid=process.pid)
        return Reading(read_streams(process, f"linux.{ROLLUP}", ROLLUP, empty_means_gone=True))
    name = SMAPS if query.residency else MAPS
    for _ in range(READINGS):
        streams = read_streams(process, f"linux.{name}", name, empty_means_gone=True)
        if not streams.get(UNLISTED):
            break
    text = streams[name]
    if not text:
        return Reading({name: text, STAT: streams[STAT]})
    if (at := text.find(b"\0")) >= 0:
        raise MalformedData(name, at, "a text without NUL bytes", found=text[at:], pid=process.pid)
    incomplete = None
    if process.emulator is not None:
        text, incomplete = without_repeats(text), told_by(process.emulator)
    answers = {name: text}
    if missed := streams.get(UNLISTED):
        answers[UNLISTED] = missed
        incomplete = untold(name, missed, process.system.byte_order)
        text += b"".join(line.text for line in lines_of(missed, process.system.byte_order))
    folder = cache(partial(living_folder, process))
    if names := open_names(text, lambda bounds: _mapped_name(process, folder(), bounds)):
        answers |= settle(process, names).streams()
    return Reading(answers, incomplete)


def _mapped_name(process: RemoteProcess, folder: bytes, bounds: bytes) -> bytes | None:
    try:
        return process.read_link(b"%s/map_files/%s" % (folder, bounds))
    except AgentRefused:  # it takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN
        return None


SOURCES = AgentSources(
    system="linux",
    files=tuple(Path(__file__).parents[2] / "native" / file for file in ("acquire.c", "text_file.c", "holes.c")),
    table="vmatlas_linux_procfs_sources",
    names=("linux.maps", "linux.smaps"),  # an agent without linux.smaps_rollup serves as well: totals are sums then
    probe=probe,
    ask=ask,
)
