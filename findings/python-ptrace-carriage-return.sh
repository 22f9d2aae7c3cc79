#!/usr/bin/env bash
# python-ptrace 0.9.9 (PyPI): a mapped file with a carriage return in its name ends the reading of the map.
#
# Expected: the kernel escapes the newline of a name and nothing else, so a line of /proc/PID/maps ends at "\n" alone.
# Seen on 2026-11-29 (CPython 3.11, Linux 6.18): the file is read as text, "\r" counts as an end of line, and the second
# half of the name is a line that fits no pattern: ProcessError, no region.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check python-ptrace==0.9.9
"$folder/venv/bin/python" - "$folder" <<'P'
import mmap
import os
import sys

from ptrace.debugger.memory_mapping import readProcessMappings
from ptrace.debugger.process_error import ProcessError


class Oneself:
    pid = os.getpid()


print("regions before:", len(readProcessMappings(Oneself)) > 10)
descriptor = os.open(sys.argv[1] + "/one\rtwo", os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 4096)
mapped = mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ)
try:
    regions = readProcessMappings(Oneself)
except ProcessError as error:
    print("with the name mapped:", error)
    sys.exit("'two'" not in str(error))
sys.exit(f"changed: {len(regions)} regions")
P
