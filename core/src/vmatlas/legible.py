"""What may be shown of anybody's text, and sizes for people. Pure.

Names of files, of processes and of memory are whoever's: `escape` is the one function that makes them harmless,
whatever is drawn or written of them.
"""

from __future__ import annotations

FOOT = "* "
"""Begins what stands below the rows in a column of names: a name that begins so is escaped."""

_UNITS = "KMGTPE"
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}


def human(size: int) -> str:
    """Bytes in at most five characters: "132K", "1.5M", "2M". Below ten "2M" is exact, "2.0M" rounded; above, all."""
    if size < 1024:
        return str(size)
    value, power = float(size), 0
    while value >= 1023.5 and power < len(_UNITS):
        value, power = value / 1024, power + 1
    unit = _UNITS[power - 1]
    if value >= 9.95 or size == int(value) * 1024**power:
        return f"{value:.0f}{unit}"
    return f"{value:.1f}{unit}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """ "1 region", "12 regions"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def escape(text: str) -> str:
    r"""Text that cannot break a line or a terminal, and from which the original can be told.

    Newline, tab and carriage return become \n, \t and \r; another control character \xNN; a byte that is not UTF-8
    \xNN; another character that does not print (a changed direction of writing, say) \uNNNN; a backslash \\. The
    asterisk of what begins as the line of a total does (`FOOT`) is \x2a.
    """
    if text.startswith(FOOT):
        return f"\\x2a{escape(text[1:])}"
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escaped, text))


def foot(text: str) -> str:
    """What the line of a total is called, or of what it lacks: no name looks like it."""
    return FOOT + escape(text)


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str) -> str:
    """A message that stays on its line and does nothing to a terminal; backslashes in it are its own."""
    return text if text.isprintable() else "".join(c if c == "\\" else _escaped(c) for c in text)
