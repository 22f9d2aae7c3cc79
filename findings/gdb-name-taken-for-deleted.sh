#!/usr/bin/env bash
# gdb 13.1 (Debian 12's gdb-minimal): gcore takes a file whose name really ends in " (deleted)" for one that was unlinked.
#
# Expected: a private, read-only, untouched mapping of a file that is there is left out of the core (NT_FILE names the file).
# Seen on 2026-11-29 (Linux 6.18): so it is for "plain"; the bytes of "odd (deleted)", mapped alike, are written out, since
# /proc/PID/smaps ends that line like the line of an unlinked file and gdb goes by the name alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=$(apt-cache madison gdb-minimal | awk '$3 ~ /^13\.1-/ {print $3; exit}')
apt-get download -q "gdb-minimal=$version" >/dev/null
dpkg -x gdb-minimal_*.deb .
./usr/bin/gdb --version | head -1
cat >ask.py <<'P'
import ctypes
import mmap
import os
import subprocess

ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1 & 2**64 - 1), 0, 0, 0)  # PR_SET_PTRACER: Yama lets gdb attach
kept = []
for name, mark in (("plain", "first"), ("odd (deleted)", "second")):
    # The mark is put together in the file alone, so that no other memory of this process holds it.
    subprocess.run(["sh", "-c", f"printf '%s-%s' MARK {mark} > '{name}'; truncate -s 4096 '{name}'"], check=True)
    descriptor = os.open(name, os.O_RDONLY)
    kept.append(mmap.mmap(descriptor, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
subprocess.run(
    ["usr/bin/gdb", "-p", str(os.getpid()), "-batch", "-ex", "gcore core"], check=True, capture_output=True, timeout=60
)
core = open("core", "rb").read()
for name, mark in (("plain", "first"), ("odd (deleted)", "second")):
    wanted = "-".join(("MARK", mark)).encode()
    print(f"{name}:", "dumped" if wanted + bytes(64) in core else "left out")
P
python3 ask.py | tee seen
diff seen - <<'S'
plain: left out
odd (deleted): dumped
S
