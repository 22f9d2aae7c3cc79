#!/usr/bin/env bash
# gVisor (runsc 0.0~20221219.0 of Debian 12, x86-64): /proc/PID/maps tells a newline in a file's name as it is.
#
# Expected: "\012" in its place, as Linux writes it (proc_pid_maps(5)), so that a line is a region and a name stays a name.
# Seen on 2026-11-30: the name goes on in the next line, which is no region's. Who reads maps line by line in a sandbox stops
# at it, or loses the rest of the name.
# It takes root, for the sandbox's namespaces.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q runsc=0.0~20221219.0-2+b3 >/dev/null
dpkg -x runsc_*.deb .
cat > program.py <<'P'
import mmap, os, platform
name = "/tmp/one\ntwo"
descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 4096)
kept = mmap.mmap(descriptor, 4096)
text = open("/proc/self/maps").read()
os.unlink(name)
print(platform.release(), "a line of its own:", "two" in text.split("\n"))
print(platform.release(), "escaped:", "/tmp/one\\012two" in text)
P
chmod 755 . program.py
{
    timeout 60 usr/bin/runsc --root="$folder/state" --network=none --ignore-cgroups do python3 "$folder/program.py"
    python3 program.py | sed "s/^$(uname -r)/Linux/"
} | tee seen
diff seen - <<'S'
4.4.0 a line of its own: True
4.4.0 escaped: False
Linux a line of its own: False
Linux escaped: True
S
