#!/usr/bin/env bash
# Linux (seen on 6.18): a descriptor of /proc/PID/maps that was opened before PID executed another program goes on telling the
# parent's memory, if PID was made by vfork(2) or posix_spawn(3).
#
# Expected: what is read from it is empty after exec, as it is of a child of fork, so that a reader who keeps it opens it anew.
# Seen on 2026-11-30: such a child shares its parent's memory until it executes, and a descriptor belongs to that memory, which
# lives on: /proc/PID/maps, opened again, tells the new program; the descriptor never ends, and never fails.
# Who keeps one open per process (to be quick, or as an identity) tells one process's map as another's without a sign of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkfifo pipe
cat > parent.py <<'P'
import os, sys
wait = [(os.POSIX_SPAWN_OPEN, 0, "pipe", os.O_RDONLY, 0)]
if sys.argv[1] == "posix_spawn":
    os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, file_actions=wait)
elif not os.fork():
    os.open("pipe", os.O_RDONLY)
    os.execv("/bin/sleep", ["sleep", "60"])
sys.stdin.read()
P
cat > reader.py <<'P'
import os, platform, signal, subprocess, time
def text(descriptor):
    os.lseek(descriptor, 0, os.SEEK_SET)
    found = b""
    while piece := os.read(descriptor, 65536):
        found += piece
    return found
seen = {}
for how in ("fork", "posix_spawn"):
    parent = subprocess.Popen(["python3", "parent.py", how], stdin=subprocess.PIPE)
    children = f"/proc/{parent.pid}/task/{parent.pid}/children"
    while not (child := open(children).read().strip()):
        time.sleep(0.01)
    kept = os.open(f"/proc/{child}/maps", os.O_RDONLY)
    assert b"python" in text(kept)
    os.close(os.open("pipe", os.O_WRONLY))
    while open(f"/proc/{child}/comm").read() != "sleep\n":
        time.sleep(0.01)
    now = text(kept)
    anew = open(f"/proc/{child}/maps", "rb").read()
    seen[how] = "empty" if not now else "the parent's" if b"python" in now else "the new program's"
    assert b"/sleep" in anew and b"python" not in anew
    os.kill(int(child), signal.SIGKILL)
    parent.stdin.close()
    parent.wait()
print(platform.release(), "kept descriptor after exec:", seen)
raise SystemExit(seen != {"fork": "empty", "posix_spawn": "the parent's"})
P
timeout 60 python3 reader.py
