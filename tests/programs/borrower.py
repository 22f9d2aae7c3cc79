"""Has a child that shares its memory (vfork, as posix_spawn does it) until the named pipe is opened for writing: then
that executes sleep. Meanwhile this program stands still, having said `ready` and where a mapping of its own lies.

usage: borrower.py PIPE
"""

import ctypes
import mmap
import os
import sys

pipe = sys.argv[1]
kept = mmap.mmap(-1, 1 << 20)
kept[0] = 1
print("ready", ctypes.addressof(ctypes.c_char.from_buffer(kept)), flush=True)
wait_for_it = [(os.POSIX_SPAWN_OPEN, 0, pipe, os.O_RDONLY, 0)]
os.posix_spawn("/bin/sleep", ["sleep", "3600"], {}, file_actions=wait_for_it)
sys.stdin.read()
