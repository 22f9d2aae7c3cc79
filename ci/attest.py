"""Attests what a release was made of, or verifies that: a statement of in-toto's in an envelope that is signed (DSSE).

    python ci/attest.py FOLDER --key KEY.pem      makes FOLDER/attestation.intoto.jsonl of FOLDER/vmatlas.intoto.json
    python ci/attest.py FOLDER --public KEY.pem   verifies it, then that every file is one of those that it tells of

KEY.pem is a private or a public key as `openssl` writes them (Ed25519, or ECDSA with P-256): neither a network nor an
account is needed. The envelope is what others read (github.com/secure-systems-lab/dsse: envelope.md, protocol.md).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from sign import Unsound, run

STATEMENT, ATTESTATION = "vmatlas.intoto.json", "attestation.intoto.jsonl"
TYPE = "application/vnd.in-toto+json"


def encoded(payload: bytes) -> bytes:
    """What is signed: DSSE's "pre-authentication encoding" of the type and the payload."""
    return b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(payload), payload)


def attest(folder: Path, key: Path) -> Path:
    """Sign the statement of a folder; the envelope. Raises Unsound, also where a file is not as the statement says."""
    path = folder / STATEMENT
    if not path.is_file():
        raise Unsound(f"{path} is not there: invoke wheels makes it")
    payload = path.read_bytes()
    check(folder, payload, whole=True)
    with tempfile.TemporaryDirectory() as space:
        meant, signed = Path(space, "meant"), Path(space, "signed")
        meant.write_bytes(encoded(payload))
        run("openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(meant), "-out", str(signed))
        signature = {"keyid": _key(key, private=True), "sig": base64.b64encode(signed.read_bytes()).decode()}
    told = {"payload": base64.b64encode(payload).decode(), "payloadType": TYPE, "signatures": [signature]}
    made = folder / ATTESTATION
    made.write_text(json.dumps(told) + "\n", "utf-8")
    return made


def verify(folder: Path, public: Path) -> str:
    """What the attestation tells, in a line, once it holds and the files are those that it tells of. Raises Unsound."""
    path = folder / ATTESTATION
    if not path.is_file():
        raise Unsound(f"{path} is not there: nobody has attested what these files were made of")
    try:
        told = json.loads(path.read_text("utf-8"))
        payload = base64.b64decode(told["payload"], validate=True)
        kind, signatures = told["payloadType"], [base64.b64decode(each["sig"]) for each in told["signatures"]]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise Unsound(f"{path} is no envelope: {error!r}") from None
    if kind != TYPE:
        raise Unsound(f"{path} holds {kind!r}, and no statement")
    if not any(_holds(encoded(payload), each, public) for each in signatures):
        raise Unsound(f"{path} is not signed by {public}")
    number, commit = check(folder, payload, whole=False)
    return f"{number} files of commit {commit}, by the key {_key(public)[:16]}"


def check(folder: Path, payload: bytes, *, whole: bool) -> tuple[int, str]:
    """How many files a statement tells of, and of which commit.

    Raises Unsound unless each file of ours is one of them; where not `whole`, some may lack.
    """
    try:
        statement = json.loads(payload)
        told = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
        commit = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Unsound(f"the statement is none of what `invoke wheels` made: {error!r}") from None
    there = {path.name for path in folder.glob("vmatlas*")} - {STATEMENT}
    if differ := set(told) ^ there if whole else there - set(told):
        raise Unsound(f"the statement and {folder} differ: {', '.join(sorted(differ))}")
    if not there:
        raise Unsound(f"{folder} has none of the files that the statement tells of")
    for name in sorted(there):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != told[name]:
            raise Unsound(f"{folder / name} is not what the statement tells of")
    return len(told), commit


def _holds(meant: bytes, signature: bytes, public: Path) -> bool:
    with tempfile.TemporaryDirectory() as space:
        text, signed = Path(space, "meant"), Path(space, "signed")
        text.write_bytes(meant)
        signed.write_bytes(signature)
        words = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public), "-in", str(text)]
        _key(public)  # what is no key at all is told as such
        return subprocess.run([*words, "-sigfile", str(signed)], capture_output=True, check=False).returncode == 0


def _key(path: Path, *, private: bool = False) -> str:
    """Which key it is: the digest of its public half (SubjectPublicKeyInfo)."""
    with tempfile.TemporaryDirectory() as space:
        made = Path(space, "public")
        words = [] if private else ["-pubin"]
        run("openssl", "pkey", *words, "-in", str(path), "-pubout", "-outform", "DER", "-out", str(made))
        return hashlib.sha256(made.read_bytes()).hexdigest()


def main() -> int:
    """Attest, or verify."""
    parser = argparse.ArgumentParser(description="Attest what the files of a release were made of, or verify that.")
    parser.add_argument("folder", type=Path)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--key", type=Path, help="a private key: attest")
    which.add_argument("--public", type=Path, help="a public key, from elsewhere than the folder: verify")
    given = parser.parse_args()
    try:
        if given.key is not None:
            print(f"attested: {attest(given.folder, given.key)}")
        else:
            print(f"what is attested holds: {verify(given.folder, given.public)}")
    except Unsound as error:
        print(f"attest: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
