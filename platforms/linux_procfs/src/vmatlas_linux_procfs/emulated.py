"""The text of maps as an emulator (qemu-user) writes it for the program that it runs. Pure."""

from __future__ import annotations

from vmatlas.systems.linux.proc import lines_of


def without_repeats(text: bytes) -> bytes:
    """The text without a line that says just what the one before it said.

    QEMU 7.2 writes [vsyscall] for each x86-64 program, and once more where the kernel below has one.
    """
    lines = lines_of(text)
    end = text[len(text.removesuffix(b"\n")) :]
    return b"\n".join(line for number, line in enumerate(lines) if not number or line != lines[number - 1]) + end
