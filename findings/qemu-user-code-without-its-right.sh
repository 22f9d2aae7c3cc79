#!/usr/bin/env bash
# qemu-user 7.2 (Debian 12's qemu-user-static): memory that the program made executable is told as not executable.
#
# Expected: the map that the emulator makes up for the program has the rights that the program gave: r--p, r-xp, r--p.
# Seen on 2026-11-29 (x86-64 on x86-64, Linux 6.18): one line r--p over all three pages. On the host code of the guest is
# data, and that is what is told; so a search for executable memory finds none, whatever the guest runs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=$(apt-cache madison qemu-user-static | awk '$3 ~ /^1:7\.2\+/ {print $3; exit}')
apt-get download -q "qemu-user-static=$version" >/dev/null 2>&1
dpkg -x qemu-user-static_*.deb .
./usr/bin/qemu-x86_64-static --version | head -1
cat >ask.py <<'P'
import ctypes

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
start = libc.mmap(None, 3 * 4096, 1, 0x22, -1, 0)
assert libc.mprotect(start + 4096, 4096, 5) == 0
told = []
for line in open("/proc/self/maps"):
    low, high = (int(each, 16) for each in line.split()[0].split("-"))
    if low < start + 3 * 4096 and high > start:
        told.append(line.split()[1])
print(*told)
P
python=$(python3 -c "import os, sys; print(os.path.realpath(sys.executable))")
printf 'the kernel: %s\n' "$("$python" ask.py)" | tee seen
printf 'the emulator: %s\n' "$(./usr/bin/qemu-x86_64-static "$python" ask.py)" | tee -a seen
diff seen - <<'S'
the kernel: r--p r-xp r--p
the emulator: r--p
S
