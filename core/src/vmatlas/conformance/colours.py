"""How far colours are apart, also for those who lack one sort of cones; for the tests of whatever we draw."""

from __future__ import annotations

from collections.abc import Sequence

SEEN_BY = {
    "all": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
"""What becomes of linear red, green and blue: Machado, Oliveira, Fernandes (2009), of the full severity."""

_LIGHTNESS = (0.2126, 0.7152, 0.0722)
"""What red, green and blue bring to it (IEC 61966-2-1)."""


def linear(colour: str) -> list[float]:
    """Red, green and blue of a #rrggbb as light, each from 0 to 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]


def seen(colour: str, by: str) -> tuple[float, float, float]:
    """A #rrggbb as it is seen: CIE 1976 L*a*b*. What the eye can just tell apart is 2 from one another."""
    rgb = linear(colour)
    made = [sum(weight * part for weight, part in zip(row, rgb, strict=True)) for row in SEEN_BY[by]]
    return _lab([min(max(each, 0.0), 1.0) for each in made])


def contrast(one: str, other: str) -> float:
    """Between two #rrggbb, as WCAG has it: from 1 to 21; text wants 4.5."""
    dark, light = sorted(sum(map(float.__mul__, _LIGHTNESS, linear(each))) for each in (one, other))
    return (light + 0.05) / (dark + 0.05)


def _lab(rgb: Sequence[float]) -> tuple[float, float, float]:
    """Of D65."""
    red, green, blue = rgb
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    fx, fy, fz = (each ** (1 / 3) if each > 0.008856 else 7.787 * each + 16 / 116 for each in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
