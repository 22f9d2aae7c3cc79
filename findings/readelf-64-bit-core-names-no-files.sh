#!/usr/bin/env bash
# readelf of binutils 2.40 (Debian 12, x86-64): the mapped files of a 64-bit core are not shown, those of a 32-bit core are.
#
# Expected: `readelf -n` lists the files of NT_FILE of either, as the program is a 64-bit one.
# Seen on 2026-11-30: of ELFCLASS64 it says that it is a 32-bit build, and exits 0; of ELFCLASS32 it lists them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=$(apt-cache madison binutils-x86-64-linux-gnu | awk '$3 ~ /^2\.40-/ {print $3; exit}')
apt-get download -q "binutils-x86-64-linux-gnu=$version" "libbinutils=$version" "libctf0=$version" "libctf-nobfd0=$version" >/dev/null
for each in *.deb; do dpkg -x "$each" .; done
readelf=usr/bin/x86_64-linux-gnu-readelf
export LD_LIBRARY_PATH=usr/lib/x86_64-linux-gnu
"$readelf" --version | head -1
python3 - <<'P'
import struct

for bits, word in ((64, "Q"), (32, "I")):
    files = struct.pack(f"<5{word}", 1, 4096, 0x10000, 0x11000, 0) + b"/opt/program\0"
    note = struct.pack("<III", 5, len(files), 0x46494C45) + b"CORE\0\0\0\0" + files + bytes(-len(files) % 4)
    ident = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    if bits == 64:
        header = ident + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        header += struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), 0, 4)
    else:
        header = ident + struct.pack("<HHIIIIIHHHHHH", 4, 3, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        header += struct.pack("<IIIIIIII", 4, 84, 0, 0, len(note), 0, 0, 4)
    open(f"core{bits}", "wb").write(header + note)
P
for bits in 64 32; do
    echo "$bits bits:"
    "$readelf" -nW "core$bits" 2>&1 | grep -E "NT_FILE|program" | sed 's/[[:space:]]\+/ /g'
done | tee seen
diff seen - <<'S'
64 bits:
 CORE 0x00000035 NT_FILE (mapped files) Cannot decode 64-bit note in 32-bit build
32 bits:
 CORE 0x00000021 NT_FILE (mapped files) Page size: 4096
 /opt/program
S
