"""Text for a terminal, harmless whoever said it: a guest, a mirror, a record of somebody else's. Nothing else here
makes what rich prints.

Guests say names of kernels, reasons of tests and last words; what they say stays on its line, colours nothing and
moves no cursor.
"""

from __future__ import annotations

from rich.text import Text

from vmatlas.cli.render.text import one_line


def line(words: str, style: str = "") -> Text:
    """One line, in which whatever would do something to a terminal is escaped, as on vmatlas's own command line."""
    return Text(one_line(words), style=style)
