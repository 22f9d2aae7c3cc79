"""What a plugin registers under `vmatlas.files`: the meaning of a container, for processes of its system.

An entry is called CONTAINER.SYSTEM: "elf-core.linux", "text.linux". So the one that is needed alone is loaded.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vmatlas.capture import Capture
from vmatlas.files.elf_core import Core
from vmatlas.files.minidump import Minidump

ENTRIES = "vmatlas.files"
ELF_CORE = "elf-core"
MINIDUMP = "minidump"
TEXT = "text"


@runtime_checkable
class ReadsCores(Protocol):
    """Makes captures of core files; what they decode to, the plugin's backend tells."""

    def capture_of_core(self, core: Core, *, name: str, time: float) -> Capture:
        """`name` is what errors call the file, `time` when it was written. Raises MalformedData, Unsupported."""
        ...


@runtime_checkable
class ReadsMinidumps(Protocol):
    """Makes captures of minidumps; what they decode to, the plugin's backend tells."""

    def capture_of_minidump(self, dump: Minidump, *, name: str, time: float) -> Capture:
        """`name` is what errors call the file, `time` when it was written. Raises MalformedData, Unsupported."""
        ...


@runtime_checkable
class ReadsTexts(Protocol):
    """Makes captures of texts: a map that was saved or pasted, the report of a crash."""

    def capture_of_text(self, text: bytes, *, form: str, name: str, time: float, lenient: bool) -> Capture:
        """`form` is one of `vmatlas.files.texts`; `lenient`: lines that are none of a map are passed over, and counted.

        Raises MalformedData; Unsupported for a text that tells no map.
        """
        ...
