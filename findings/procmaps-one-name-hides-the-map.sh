#!/usr/bin/env bash
# procmaps 0.6.5 (PyPI; bindings of a Rust crate): a file name that is not UTF-8 makes the whole map unreadable.
#
# Expected: Linux takes any byte but "/" and NUL in a name, so one such name is one odd path among hundreds of regions.
# Seen on 2026-11-29 (CPython 3.11, Linux 6.18): OSError "stream did not contain valid UTF-8", and no region at all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check procmaps==0.6.5
"$folder/venv/bin/python" - "$folder" <<'P'
import mmap
import os
import sys

import procmaps

print("regions before:", len(procmaps.from_pid(os.getpid())) > 10)
descriptor = os.open(os.fsencode(sys.argv[1]) + b"/caf\xe9", os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 4096)
mapped = mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ)
try:
    regions = procmaps.from_pid(os.getpid())
except OSError as error:
    print("with the name mapped:", error)
    sys.exit("valid UTF-8" not in str(error))
sys.exit(f"changed: {len(regions)} regions")
P
