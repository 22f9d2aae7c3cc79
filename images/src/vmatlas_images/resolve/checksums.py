"""Checksum files of publishers: which digest they state of a file."""

from __future__ import annotations

from ..errors import VerificationError

_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


def _listed(line: str) -> tuple[str, str]:
    """Digest and name in a line as BSD's tools write it, "SHA256 (NAME) = DIGEST", or GNU's, "DIGEST  NAME"."""
    line = line.rstrip()
    if line.startswith(("SHA256 (", "SHA512 (")):
        name, _, digest = line[8:].rpartition(") = ")
        return digest, name
    digest, _, name = line.partition(" ")
    return (digest, name[1:]) if name[:1] in (" ", "*") else ("", "")


def read_checksums(text: str, name: str, origin: str) -> tuple[str, str]:
    """Algorithm and digest of the file `name` in a checksum file, written as BSD or as GNU tools do.

    Raises `VerificationError` when the file is not listed, or listed with two digests.
    """
    found: set[tuple[str, str]] = set()
    for line in text.split("\n"):
        digest, listed = _listed(line)
        if listed.rsplit("/", 1)[-1] == name and len(digest) in (64, 128) and set(digest) <= _HEXADECIMAL:
            found.add(("sha256" if len(digest) == 64 else "sha512", digest.lower()))
    strongest = sorted(found, reverse=True)
    if not strongest:
        raise VerificationError(f"{origin}: lists no SHA256 or SHA512 of {name}")
    if len({algorithm for algorithm, _ in found}) != len(found):
        raise VerificationError(f"{origin}: lists {name} with two different digests")
    return strongest[0]
