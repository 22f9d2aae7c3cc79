#!/usr/bin/env bash
# PyMemoryEditor 3.4.0 (PyPI): the path of a mapped file loses white space at its end.
#
# Expected: it reads /proc/PID/maps as bytes, so that no name is damaged; what follows the spaces up to "\n" is the name.
# Seen on 2026-11-29 (CPython 3.11, Linux 6.18): the name is stripped, so a file called "data " is told as "data", which
# is not there, or is another file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check PyMemoryEditor==3.4.0
"$folder/venv/bin/python" - "$folder" <<'P'
import mmap
import os
import sys

from PyMemoryEditor.linux.functions import get_memory_regions

path = sys.argv[1] + "/data "
descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 4096)
mapped = mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ)
told = [region.path for region in get_memory_regions(os.getpid()) if sys.argv[1] + "/data" in (region.path or "")]
print("mapped:", repr(os.path.basename(path)), "told:", [os.path.basename(each) for each in told])
sys.exit([path.rstrip()] != told)
P
