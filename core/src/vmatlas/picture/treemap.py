"""A treemap: rectangles whose areas are as values are, as near to squares as may be. Pure.

The way of laying them out is that of Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


def squarified(values: Sequence[int], into: Box) -> list[Box]:
    """A box for each value, in their order: the largest first, none of them 0 or less."""
    if not values:
        return []
    scale = into.width * into.height / sum(values)
    areas = [value * scale for value in values]
    found: list[Box] = []
    left = into
    row: list[float] = []
    for area in areas:
        side = min(left.width, left.height)
        if row and _worst(row, side) < _worst([*row, area], side):
            boxes, left = _placed(row, left)
            found += boxes
            row = []
        row.append(area)
    boxes, _ = _placed(row, left)
    return found + boxes


def _worst(row: Sequence[float], side: float) -> float:
    """How far the least square of a row is from one: the ratio of its sides."""
    total = sum(row)
    if not (total and side):
        return float("inf")
    return max(side * side * max(row) / total**2, total**2 / (side * side * max(min(row), 1e-12)))


def _placed(row: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """A row along the shorter side of a box, and what is left of the box."""
    total = sum(row)
    boxes = []
    if box.width >= box.height:
        thick = total / box.height if box.height else 0.0
        y = box.y
        for area in row:
            height = area / thick if thick else 0.0
            boxes.append(Box(box.x, y, thick, height))
            y += height
        return boxes, Box(box.x + thick, box.y, max(box.width - thick, 0.0), box.height)
    thick = total / box.width if box.width else 0.0
    x = box.x
    for area in row:
        width = area / thick if thick else 0.0
        boxes.append(Box(x, box.y, width, thick))
        x += width
    return boxes, Box(box.x, box.y + thick, box.width, max(box.height - thick, 0.0))
