"""Time and memory against regions on logarithmic axes, as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, LEFT, BOTTOM, TOP, RIGHT = 860, 70, 50, 30, 300
COLOURS = (
    "#000000", "#888888", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3f00", "#5a3fa0",
    "#b00020", "#4d7c0f", "#bdb76b", "#2f4f4f",
)  # fmt: skip

Points = Sequence[tuple[float, float]]


def plot_growth(times: Mapping[str, Points], memory: Mapping[str, Points], note: str) -> str:
    """Regions to the right; nanoseconds of one whole map upward, and below that the bytes that it takes."""
    panels = [
        Panel(f"One whole map: time against regions. {note}", times, time_of, 0, 450),
        Panel("What is kept of it: memory against regions.", memory, size_of, 460, 250),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 720" font-family="sans-serif" font-size="12">'
    parts = [head, f'<rect width="{WIDTH}" height="720" fill="white"/>']
    for panel in panels:
        parts += panel.drawn()
    return "\n".join([*parts, "</svg>"]) + "\n"


class Panel:
    """Some curves over axes of their own."""

    def __init__(
        self, title: str, curves: Mapping[str, Points], label: Callable[[int], str], top: int, height: int
    ) -> None:
        self._title, self._curves, self._label = title, curves, label
        self._top, self._low = top + TOP, top + height - BOTTOM
        every = [point for points in curves.values() for point in points]
        self._x, self._y = (powers([point[axis] for point in every]) for axis in (0, 1))

    def _at(self, x: float, y: float) -> tuple[float, float]:
        right, up = ((math.log10(value) - low) / (high - low) for value, (low, high) in ((x, self._x), (y, self._y)))
        return LEFT + right * (WIDTH - LEFT - RIGHT), self._low - up * (self._low - self._top)

    def drawn(self) -> list[str]:
        """The lines of SVG."""
        return [f'<text x="{LEFT}" y="{self._top - 12}">{escape(self._title)}</text>', *self._axes(), *self._lines()]

    def _axes(self) -> list[str]:
        parts = []
        for power in range(self._x[0], self._x[1] + 1):
            x, y = self._at(10**power, 10 ** self._y[0])
            parts.append(f'<line x1="{x:.0f}" y1="{self._top}" x2="{x:.0f}" y2="{y:.0f}" stroke="#ddd"/>')
            parts.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{10**power:,}</text>')
        for power in range(self._y[0], self._y[1] + 1):
            x, y = self._at(10 ** self._x[0], 10**power)
            parts.append(f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{WIDTH - RIGHT}" y2="{y:.0f}" stroke="#ddd"/>')
            parts.append(f'<text x="{x - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{self._label(power)}</text>')
        middle = (WIDTH - RIGHT + LEFT) / 2
        return [*parts, f'<text x="{middle:.0f}" y="{self._low + 38}" text-anchor="middle">regions</text>']

    def _lines(self) -> list[str]:
        parts = []
        for number, (name, points) in enumerate(self._curves.items()):
            colour = COLOURS[number % len(COLOURS)]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self._at(*point) for point in points))
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            y = self._top + 14 + number * 18
            parts.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
            parts.append(f'<text x="{WIDTH - RIGHT + 30}" y="{y}">{escape(name)}</text>')
        return parts


def powers(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten below, and above, all of them; of no values those of 1 and 10."""
    low = math.floor(math.log10(min(values, default=1)))
    return low, max(low + 1, math.ceil(math.log10(max(values, default=1))))


def time_of(power: int) -> str:
    """10**power nanoseconds, for people."""
    return scaled(power, "ns", "µs", "ms", "s")


def size_of(power: int) -> str:
    """10**power bytes, for people."""
    return scaled(power, "B", "kB", "MB", "GB")


def scaled(power: int, *units: str) -> str:
    """10**power of the first unit, in one that it makes a small number of; each is a thousand of the one before."""
    unit = max(0, min(power // 3, len(units) - 1))
    return f"{10 ** (power - 3 * unit):,} {units[unit]}"
