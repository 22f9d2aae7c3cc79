"""Files that a process left: core files, minidumps, saved texts. A container is read here, its meaning is a plugin's.

`source` reads bytes at places of a file, `packed` the same of a compressed one, `elf_core` and `minidump` each
take a container apart, and `contract` is what a plugin registers under `vmatlas.files`, to make a capture of it.
`vmatlas.remains` (above) opens any such file. Nothing here knows an operating system but by its name.
"""
