"""Time against regions on logarithmic axes, as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 860, 480, 70, 50, 30, 300
COLOURS = ("#000000", "#888888", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3f00", "#5a3fa0")

Points = Sequence[tuple[float, float]]


def plot_curves(curves: Mapping[str, Points], note: str) -> str:
    """Regions to the right, nanoseconds of one whole map upward."""
    every = [point for points in curves.values() for point in points]
    if not every:
        return f'<svg xmlns="http://www.w3.org/2000/svg"><text y="20">{escape(note)}</text></svg>\n'
    low_x, high_x = (limit([x for x, _ in every], side) for side in (math.floor, math.ceil))
    low_y, high_y = (limit([y for _, y in every], side) for side in (math.floor, math.ceil))

    def at(x: float, y: float) -> tuple[float, float]:
        right = (math.log10(x) - low_x) / (high_x - low_x)
        up = (math.log10(y) - low_y) / (high_y - low_y)
        return LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18">One whole map: time against regions. {escape(note)}</text>',
    ]
    for power in range(low_x, high_x + 1):
        x, y = at(10**power, 10**low_y)
        parts.append(f'<line x1="{x:.0f}" y1="{TOP}" x2="{x:.0f}" y2="{y:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{10**power:,}</text>')
    for power in range(low_y, high_y + 1):
        x, y = at(10**low_x, 10**power)
        parts.append(f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{WIDTH - RIGHT}" y2="{y:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{time_of(power)}</text>')
    parts.append(f'<text x="{(WIDTH - RIGHT + LEFT) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">regions</text>')
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = TOP + 14 + number * 18
        parts.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 30}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def limit(values: Sequence[float], side: object) -> int:
    """The power of ten below, or above, all of them."""
    return math.floor(math.log10(min(values))) if side is math.floor else math.ceil(math.log10(max(values)))


def time_of(power: int) -> str:
    """10**power nanoseconds, for people."""
    unit, left = (("ns", power), ("µs", power - 3), ("ms", power - 6), ("s", power - 9))[max(0, min(power // 3, 3))]
    return f"{10**left:,} {unit}"
