#!/usr/bin/env bash
# qemu-user 7.2 (Debian 12's qemu-user-static): the map of one process has two answers, by the name it is asked under.
#
# Expected: a program under the emulator sees its own memory, or the emulator's, in whatever way it opens its map.
# Seen on 2026-11-29 (x86-64 on x86-64, Linux 6.18): /proc/self/maps and /proc/PID/maps are made up by the emulator and show
# the guest; /proc/self/smaps, /proc/thread-self/maps and "maps" opened below a descriptor of /proc/self go through to
# the kernel and show the emulator itself. Nothing in them says which is which.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=$(apt-cache madison qemu-user-static | awk '$3 ~ /^1:7\.2\+/ {print $3; exit}')
apt-get download -q "qemu-user-static=$version" >/dev/null
dpkg -x qemu-user-static_*.deb .
./usr/bin/qemu-x86_64-static --version | head -1
cat >ask.py <<'P'
import os

folder = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
ways = {
    "/proc/self/maps": open("/proc/self/maps"),
    "/proc/PID/maps": open(f"/proc/{os.getpid()}/maps"),
    "/proc/self/smaps": open("/proc/self/smaps"),
    "/proc/thread-self/maps": open("/proc/thread-self/maps"),
    "maps below a descriptor": os.fdopen(os.open("maps", os.O_RDONLY, dir_fd=folder)),
}
for way, file in ways.items():
    print(f"{way}:", "the emulator" if "qemu-x86_64-static" in file.read() else "the guest")
P
./usr/bin/qemu-x86_64-static "$(readlink -f /usr/bin/python3)" ask.py | tee seen
diff seen - <<'S'
/proc/self/maps: the guest
/proc/PID/maps: the guest
/proc/self/smaps: the emulator
/proc/thread-self/maps: the emulator
maps below a descriptor: the emulator
S
