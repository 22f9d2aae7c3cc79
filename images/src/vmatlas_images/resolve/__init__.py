"""Second room: from a description to the complete list of what is wanted: names, versions, digests, places (`wanted`).

`kernel` and `python` resolve; `debian` and `checksums` understand what publishers say of their files; `lock` holds what
was resolved before; `local` names the user's own files, `offline` tells whether anybody may be asked. What an index or
a checksum file says is asked of a `Catalogue`, which the room above is: nothing here opens a connection, and all of it
can be tried with a catalogue of a few lines.
"""
