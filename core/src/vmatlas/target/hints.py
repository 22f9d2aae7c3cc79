"""What to do when no agent answers: read from what was heard instead."""

from __future__ import annotations

import re

_PROMPT = re.compile(r"(login|username|password|passwort):\s*$|[#$>%] ?$", re.IGNORECASE)
_ESCAPE = re.compile(r"\\x[0-9a-f]{2}")
_FORMAT = ("Exec format error", "cannot execute binary file", "Illegal instruction")


def is_of_another_processor(words: str) -> bool:
    """Whether somebody says that a program is for another processor."""
    return any(said in words for said in _FORMAT)


def of_program(words: str) -> str | None:
    """For a program that was started as an agent, and could not be or ended."""
    if is_of_another_processor(words):
        return "that program is for another processor; the agents there are: python -m vmatlas_agents.build --list"
    return None


def of_line(words: str, *, baud: int) -> str:
    """For a serial line on which no agent answered."""
    start = f"start one at the other end: vmatlas-agent --port DEVICE --baud {baud}"
    heard = words.strip()
    if not heard:
        return f"nothing came: {start}; the cable, the device and ?baud= ({baud} here) are worth a look, too"
    if _PROMPT.search(heard.rpartition("\n")[2]):
        return (
            "a login or a shell is at the other end, and no agent: log in there by a terminal program, "
            "and start one on this line: stty raw -echo; exec vmatlas-agent"
        )
    letters = _ESCAPE.sub("\0", heard)  # bytes that are no UTF-8 are escaped there
    if sum(not (letter.isascii() and (letter.isprintable() or letter in "\r\n\t")) for letter in letters) * 4 > len(
        letters
    ):
        return f"what came is no text: is the speed of the other end another than ?baud= ({baud} here)?"
    return f"something else talks on that line: {start}, and let nobody else use that line"
