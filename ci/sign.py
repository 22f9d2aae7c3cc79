"""Signs the list of digests of a release, and verifies one: who made these files, and whether they are as they were.

    python ci/sign.py FOLDER --key KEY          signs FOLDER/SHA256SUMS, once every file is found as the list says
    python ci/sign.py FOLDER --signers FILE     verifies the signature (by ssh: FILE has who may sign), then every file

KEY is a file with a private key of ssh (then SHA256SUMS.sig, by ssh-keygen), or a key that gpg knows (SHA256SUMS.asc).
The list has the statement of what was made of what (vmatlas.intoto.json) in it, so one signature stands for both.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

LIST = "SHA256SUMS"
SSH, GPG = f"{LIST}.sig", f"{LIST}.asc"
NAMESPACE = "vmatlas-release"
"""What a signature by ssh is for: one that was given for something else is none for a release."""


class Unsound(Exception):
    """What must not be signed, or must not be used."""


def sign(folder: Path, key: str) -> Path:
    """Sign the list of a folder; the signature. One that was there is replaced. Raises Unsound."""
    check(folder)
    for left in (SSH, GPG):
        (folder / left).unlink(missing_ok=True)
    if Path(key).is_file():
        run("ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", key, str(folder / LIST))
        return folder / SSH
    made = folder / GPG
    run("gpg", "--batch", "--local-user", key, "--armor", "--output", str(made), "--detach-sign", str(folder / LIST))
    return made


def verify(folder: Path, signers: Path | None) -> str:
    """Whose signature it is, once it holds and every file is as it was. Raises Unsound.

    `signers`: for a signature by ssh, lines of "NAME KEYTYPE KEY" (ssh-keygen(1), ALLOWED SIGNERS), from elsewhere than
    the folder. One by gpg is held to the keys that gpg knows.
    """
    if (folder / SSH).is_file():
        if signers is None:
            raise Unsound(f"{SSH} is by ssh: who may sign stands in a file (--signers)")
        where = ["-s", str(folder / SSH), "-f", str(signers)]
        names = run("ssh-keygen", "-Y", "find-principals", *where).split("\n")
        signed = (folder / LIST).read_bytes()
        whose = run("ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", names[0], *where, given=signed)
    elif (folder / GPG).is_file():
        whose = run("gpg", "--batch", "--status-fd", "1", "--verify", str(folder / GPG), str(folder / LIST))
        told = [line.removeprefix("[GNUPG:] ").split() for line in whose.split("\n") if line.startswith("[GNUPG:] ")]
        valid = [words[1] for words in told if words[0] == "VALIDSIG"]
        if len(valid) != 1 or any(words[0] in ("EXPSIG", "EXPKEYSIG", "REVKEYSIG") for words in told):
            raise Unsound(f"{GPG}: gpg calls it no valid signature of a key that still holds")
        whose = valid[0]
    else:
        raise Unsound(f"{folder}: nobody has signed {LIST}")
    check(folder, whole=False)
    return whose.strip()


def check(folder: Path, *, whole: bool = True) -> None:
    """Raises Unsound unless each file of the list is as it says, and no file of ours is without a line. Not `whole`:
    some of them may not be here."""
    path = folder / LIST
    if not path.is_file():
        raise Unsound(f"{path} is not there: invoke wheels makes it")
    lines = path.read_text("utf-8").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = {each.name for each in folder.glob("vmatlas*")}
    if differ := set(listed) ^ there if whole else there - set(listed):
        raise Unsound(f"{path} and the folder differ: {', '.join(sorted(differ))}")
    for name in sorted(there):
        digest = listed[name]
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise Unsound(f"{folder / name} is not what {LIST} says")
    if not there:
        raise Unsound(f"{folder} has none of the files that {LIST} lists")


def run(*words: str, given: bytes = b"") -> str:
    """What a program prints that signs or verifies. Raises Unsound."""
    try:
        done = subprocess.run(words, input=given, capture_output=True, check=False)
    except FileNotFoundError:
        raise Unsound(f"{words[0]} is not installed here") from None
    if done.returncode:
        told = (done.stderr or done.stdout).decode("utf-8", "replace").strip().replace("\n", "; ")
        raise Unsound(f"{words[0]}: {told or f'exit {done.returncode}'}")
    return done.stdout.decode("utf-8", "replace")


def main() -> int:
    """Sign, or verify."""
    parser = argparse.ArgumentParser(description="Sign the digests of a release, or verify them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--key", help="a file with a private key of ssh, or a key that gpg knows: sign")
    parser.add_argument("--signers", type=Path, help="who may sign by ssh: verify")
    given = parser.parse_args()
    try:
        if given.key is not None:
            print(f"signed: {sign(given.folder, given.key)}")
        else:
            print(f"every file is as it was signed: {verify(given.folder, given.signers)}")
    except Unsound as error:
        print(f"sign: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
