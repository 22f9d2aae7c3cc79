#!/usr/bin/env bash
# addr2line of binutils 2.40 (Debian 12, x86-64): an address behind a function's end (st_size) is given the function's name.
#
# Expected: of an address that no symbol covers it says "??", as it does of one outside of every section.
# Seen on 2026-11-30: all of the padding between two functions has the name of the one before, 4 KiB behind its end, too: a
# crash or a sample in what was put there is told as that function's. `nm -S` tells the sizes, and so where each ends.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=$(apt-cache madison binutils-x86-64-linux-gnu | awk '$3 ~ /^2\.40-/ {print $3; exit}')
apt-get download -q "binutils-x86-64-linux-gnu=$version" "libbinutils=$version" "libctf0=$version" \
    "libctf-nobfd0=$version" "libgprofng0=$version" >/dev/null
for each in *.deb; do dpkg -x "$each" .; done
export LD_LIBRARY_PATH=usr/lib/x86_64-linux-gnu
tool() { "usr/bin/x86_64-linux-gnu-$1" "${@:2}"; }
tool addr2line --version | head -1
cat > code.s <<'S'
    .text
    .globl first, second
    .type first, @function
first:
    ret
    .size first, .-first
    .skip 4095, 0xcc
    .type second, @function
second:
    ret
    .size second, .-second
S
tool as -o code.o code.s
tool ld -shared -Ttext=0x1000 -o code.so code.o
{
    tool nm -S code.so | grep -E ' (first|second)$'
    for address in 0x1000 0x1001 0x1800 0x2000 0x3000; do
        echo "$address $(tool addr2line -f -e code.so "$address" | head -1)"
    done
} | tee seen
diff seen - <<'S'
0000000000001000 0000000000000001 T first
0000000000002000 0000000000000001 T second
0x1000 first
0x1001 first
0x1800 first
0x2000 second
0x3000 ??
S
