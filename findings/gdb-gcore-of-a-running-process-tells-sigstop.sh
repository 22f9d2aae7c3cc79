#!/usr/bin/env bash
# gdb 13.1 (Debian 12's gdb-minimal): gcore of a process that runs, and that nobody signalled, writes a core that tells of SIGSTOP.
#
# Expected: such a core has no NT_SIGINFO, or one of signal 0, as its NT_PRSTATUS has (pr_cursig 0): the process was not stopped by a signal.
# Seen on 2026-11-30 (Linux 6.18): NT_SIGINFO with si_signo 19 (SIGSTOP) and si_code 128 (SI_KERNEL), which is how gdb itself stopped it
# to look at it: whoever opens the core is told a stop signal that the process never had. Of a process that SIGSTOP had really stopped
# before gdb came, the core has no NT_SIGINFO: it is the other way round.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=$(apt-cache madison gdb-minimal | awk '$3 ~ /^13\.1-/ {print $3; exit}')
apt-get download -q "gdb-minimal=$version" >/dev/null
dpkg -x gdb-minimal_*.deb .
./usr/bin/gdb --version | head -1
cat >ask.py <<'P'
import os
import signal
import struct
import subprocess
import sys
import time

PROGRAM = "import ctypes, time; ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(2**64 - 1), 0, 0, 0); print(flush=True); time.sleep(600)"


def told(path):
    core = open(path, "rb").read()
    at, count = struct.unpack_from("<Q", core, 32)[0], struct.unpack_from("<H", core, 56)[0]
    for header in range(at, at + 56 * count, 56):
        kind, _, place, _, _, size = struct.unpack_from("<IIQQQQ", core, header)
        end = place + size
        while kind == 4 and place < end:
            name, length, note = struct.unpack_from("<III", core, place)
            content = place + 12 + name + -name % 4
            if note == 1:
                yield "pr_cursig %d" % struct.unpack_from("<h", core, content + 12)
            elif note == 0x53494749:
                yield "si_signo %d, si_code %d" % struct.unpack_from("<i4xi", core, content)
            place = content + length + -length % 4


for what in ("runs", "stopped by kill -STOP"):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    process.stdout.readline()  # by now Yama lets gdb attach
    if what != "runs":
        process.send_signal(signal.SIGSTOP)
        while open(f"/proc/{process.pid}/stat").read().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
    gdb = ["usr/bin/gdb", "-nx", "-p", str(process.pid), "-batch", "-ex", "gcore core"]
    subprocess.run(gdb, check=True, capture_output=True, timeout=60)
    process.kill()
    process.wait()
    print(f"{what}: {'; '.join(told('core'))}")
    os.unlink("core")
P
python3 ask.py | tee seen
diff seen - <<'S'
runs: pr_cursig 0; si_signo 19, si_code 128
stopped by kill -STOP: pr_cursig 0
S
