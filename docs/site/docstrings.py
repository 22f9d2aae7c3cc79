"""Our docstrings as reStructuredText: they are plain text, in which code stands in single backticks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_CODE = re.compile(r"(`[^`]+`)")
_ITEM = re.compile(r"\s*(?:[-*]|\d+\.) ")
_CODE_FROM = 2
"""Columns: what is indented as far is an example or a table, and no text."""

_SPECIAL = re.compile(r"([*|\\])|(?<=\w)(_)(?!\w)")


def reformed(lines: Sequence[str]) -> list[str]:
    """The lines of a docstring: what is indented stays as it is, code is code, and no other sign means anything."""
    return [line for block in _blocks(lines) for line in (*_reformed(block), "")]


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Paragraphs, and what is indented: that goes on over empty lines, and whatever more it is indented."""
    block: list[str] = []
    for line in lines:
        if not line.strip():
            if block and not _is_code(block):
                yield block
                block = []
            elif block:
                block.append("")
            continue
        if block and not _ITEM.match(block[0]) and _is_code(block) != (_depth(line) >= _CODE_FROM):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _is_code(block: Sequence[str]) -> bool:
    return _depth(block[0]) >= _CODE_FROM and not _ITEM.match(block[0])


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _reformed(block: list[str]) -> list[str]:
    if _is_code(block):
        least = min(_depth(line) for line in block if line)
        return ["::", "", *(f"    {line[least:]}" if line else "" for line in block)]
    return [_plain(line) for line in block]


def _plain(line: str) -> str:
    parts = _CODE.split(line)
    return "".join(
        f"`{part}`" if _CODE.fullmatch(part) else _SPECIAL.sub(lambda found: "\\" + found[0], part) for part in parts
    )
