"""The colours, by name: one for each kind of memory, and a few for what deserves a look.

Only the sixteen colours that every terminal has, so that they follow the user's own theme; and of these neither yellow
nor white, which cannot be read on white.
"""

from __future__ import annotations

STYLES = {
    "title": "bold",
    "heading": "bold",
    "note": "dim",
    "alarm": "bold red",
    "warning": "bold magenta",
    "good": "green",
    "bad": "red",
    "repeated": "dim",
    "kind.file": "cyan",
    "kind.anonymous": "default",
    "kind.heap": "bright_blue",
    "kind.stack": "magenta",
    "kind.shared-memory": "green",
    "kind.device": "bright_red",
    "kind.physical": "bright_red",
    "kind.vdso": "blue",
    "kind.vvar": "blue",
    "kind.vsyscall": "blue",
    "kind.guard": "bright_black",
    "kind.other": "default",
    "sort.image": "cyan",
    "sort.file": "bright_cyan",
    "sort.heap": "bright_blue",
    "sort.anonymous": "default",
    "sort.stack": "magenta",
    "sort.shared-memory": "green",
    "sort.device": "bright_red",
    "sort.kernel": "blue",
    "sort.reserved": "bright_black",
    "sort.other": "default",
    "gap": "bright_black italic",
    "change.added": "green",
    "change.removed": "red",
    "change.grown": "bright_blue",
    "change.shrunk": "cyan",
    "change.moved": "blue",
    "change.changed": "magenta",
    "change.filled": "bright_blue",
    "change.emptied": "cyan",
    "change.same": "bright_black",
}
"""In rich's words (rich.style.Style.parse)."""
