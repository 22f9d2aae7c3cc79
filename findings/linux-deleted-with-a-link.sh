#!/usr/bin/env bash
# Linux (seen on 6.18): a mapping that maps calls "(deleted)" may have a link count of one.
#
# Expected: " (deleted)" stands behind a name that was unlinked, and fstat of such a file tells no link (0), so that the two
# agree, for memfd as for any unlinked file.
# Seen on 2026-11-29: the ring of io_setup(2), "/[aio] (deleted)", never had a name and has one link; memfd has none.
# Who takes "no link" for what "(deleted)" means misses such objects, and who takes "(deleted)" for "unlinked" finds them.
set -euo pipefail
python3 - <<'P'
import ctypes
import mmap
import os
import platform
import sys

call = {"x86_64": 206, "aarch64": 0}[platform.machine()]
context = ctypes.c_ulong(0)
if ctypes.CDLL(None, use_errno=True).syscall(call, 64, ctypes.byref(context)) != 0:
    sys.exit(f"io_setup: {os.strerror(ctypes.get_errno())}")
descriptor = os.memfd_create("object")
os.ftruncate(descriptor, 4096)
kept = mmap.mmap(descriptor, 4096)
links = {}
for line in open("/proc/self/maps"):
    for name in ("/[aio] (deleted)", "/memfd:object (deleted)"):
        if line.rstrip().endswith(name):
            bounds = "-".join(f"{int(each, 16):x}" for each in line.split()[0].split("-"))
            links[name] = os.stat(f"/proc/self/map_files/{bounds}").st_nlink
print(os.uname().release, links)
sys.exit(links != {"/[aio] (deleted)": 1, "/memfd:object (deleted)": 0})
P
