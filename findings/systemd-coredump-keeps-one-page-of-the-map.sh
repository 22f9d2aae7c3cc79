#!/usr/bin/env bash
# systemd-coredump 252 (Debian 12): of the crashed process's /proc/PID/maps it keeps the first page alone.
#
# Expected: COREDUMP_PROC_MAPS in the journal's entry is the whole map, as its manual page names the field without a bound.
# Seen on 2026-11-30: it is what the kernel gives at one read, the whole lines that fit into 4,096 bytes, and nothing in the
# entry says that more followed: it looks whole. Who looks for the region of an address there (the stack's, say) finds a hole. journald, the helper and its socket run in namespaces of their own; takes root.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=$(apt-cache madison systemd-coredump | awk '$3 ~ /^252\./ {print $3; exit}')
apt-get download -q "systemd-coredump=$version" "systemd=$version" "libsystemd-shared=$version" >/dev/null
for each in *.deb; do dpkg -x "$each" unpacked; done
echo "systemd-coredump ${version%%-*}" | sed 's/\(252\).*/\1/'
cat > dies.py <<'P'
import os, subprocess, sys, time
folders = [open(os.path.join(sys.argv[1], f"object-{number:03}"), "w+b") for number in range(200)]
import mmap
for each in folders:
    each.truncate(mmap.PAGESIZE)
kept = [mmap.mmap(each.fileno(), mmap.PAGESIZE) for each in folders]
print("ready", flush=True)
time.sleep(600)
P
cat > stores.py <<'P'
import os, pathlib, subprocess, sys
helper = sys.argv[1]
os.mkdir("objects")
process = subprocess.Popen([sys.executable, "dies.py", "objects"], stdout=subprocess.PIPE)
process.stdout.readline()
pathlib.Path("maps").write_bytes(pathlib.Path(f"/proc/{process.pid}/maps").read_bytes())
told = [str(process.pid), "0", "0", "11", "1795975400", "18446744073709551615", "host.example"]
subprocess.run([helper, *told], input=b"a core", check=True)  # as the kernel calls it, by its core_pattern
process.kill()
process.wait()
P
cat > inside.sh <<'S'
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journal /run/log/journal stored/coredump
mount --bind stored /var/lib/systemd
echo 0123456789abcdef0123456789abcdef >/run/machine-id
mount --bind /run/machine-id /etc/machine-id
unpacked/lib/systemd/systemd-journald >journald.log 2>&1 &
unpacked/usr/bin/systemd-socket-activate --seqpacket --accept -l /run/systemd/coredump \
    unpacked/lib/systemd/systemd-coredump >socket.log 2>&1 &
until [ -S /run/systemd/coredump ] && [ -S /run/systemd/journal/socket ]; do sleep 0.1; done
python3 stores.py unpacked/lib/systemd/systemd-coredump
until unpacked/bin/journalctl --all -o json MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1 >journal.json &&
    [ -s journal.json ]; do sleep 0.2; done
S
LD_LIBRARY_PATH="$folder/unpacked/usr/lib/x86_64-linux-gnu/systemd:$folder/unpacked/lib/x86_64-linux-gnu/systemd" \
    timeout 120 unshare -mpf --kill-child --mount-proc sh inside.sh
python3 - <<'P' | tee seen
import json
told = json.loads(open("journal.json").read().splitlines()[-1])["COREDUMP_PROC_MAPS"]
text = (bytes(told) if isinstance(told, list) else told.encode())
whole = open("maps", "rb").read()
print("the map has more than 20,000 bytes:", len(whole) > 20_000)
print("bytes kept are a page's at the most:", 4096 - 200 < len(text) <= 4096)
print("they are its beginning:", whole.startswith(text))
print("they end with a whole line:", text.endswith(b"\n"))
P
diff seen - <<'S'
the map has more than 20,000 bytes: True
bytes kept are a page's at the most: True
they are its beginning: True
they end with a whole line: True
S
