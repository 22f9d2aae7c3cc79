"""What stands at an address, by the file that is mapped there: ELF addresses (`elf`, `places`), symbols (`table`,
`jit`). Pure: bytes of a file to values."""

from vmatlas.symbols.elf import Elf, Segment, parse_elf, place_in_elf

__all__ = ["Elf", "Segment", "parse_elf", "place_in_elf"]
