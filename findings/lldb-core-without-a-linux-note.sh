#!/usr/bin/env bash
# LLDB 14.0.6 (Debian 12): a core of qemu-user is refused, as none of its notes is called LINUX; that it is of Linux must be told.
#
# Expected: the core of a Linux process that qemu-user 7.2 wrote (ELF class, machine, NT_PRSTATUS, NT_PRPSINFO, NT_AUXV as the
# kernel's) is loaded like one that the kernel wrote, or LLDB says what of it is missing.
# Seen on 2026-11-30 (x86-64): "Don't know how to parse core file. Unsupported OS.", for an s390x, an aarch64 and an x86-64 guest alike.
# The kernel writes a note called LINUX for each thread (its further registers), qemu-user only notes called CORE. The same file is loaded
# where `--arch` tells the system, or the byte EI_OSABI says Linux (3), which neither the kernel nor qemu-user writes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
of() { apt-cache madison "$1" | awk -v wanted="$2" 'index($3, wanted) == 1 {print $3; exit}'; }
llvm=$(of lldb-14 1:14.0.6-)
apt-get download -q "lldb-14=$llvm" "liblldb-14=$llvm" "libllvm14=$llvm" "libclang-cpp14=$llvm" "python3-lldb-14=$llvm" \
    "libedit2=$(of libedit2 3.1-2022)" "libxml2=$(of libxml2 2.9.14)" "libicu72=$(of libicu72 72.1-)" \
    "libbsd0=$(of libbsd0 0.11.7-)" "libmd0=$(of libmd0 1.0.4-)" "libpython3.11=$(of libpython3.11 3.11.)" \
    "libpython3.11-minimal=$(of libpython3.11-minimal 3.11.)" "libpython3.11-stdlib=$(of libpython3.11-stdlib 3.11.)" \
    "qemu-user-static=$(of qemu-user-static 1:7.2+)" >/dev/null
for each in *.deb; do dpkg -x "$each" .; done
python3 - <<'P'
import os
import struct

# A program of one page whose only instruction is none.
for name, mark, machine, code in (("s390x", ">", 22, b"\0\0\0\0"), ("aarch64", "<", 183, b"\0\0\0\0"), ("x86_64", "<", 62, b"\x0f\x0b")):
    start, size = 0x1000000, 120 + len(code)
    head = b"\x7fELF\2" + (b"\1" if mark == "<" else b"\2") + b"\1" + bytes(9)
    head += struct.pack(mark + "HHIQQQIHHHHHH", 2, machine, 1, start + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack(mark + "IIQQQQQQ", 1, 5, 0, start, start, size, size, 4096)
    with open(name, "wb") as file:
        file.write(head + load + code)
    os.chmod(name, 0o755)
P
ulimit -c unlimited
for each in s390x aarch64 x86_64; do
    timeout 60 "usr/bin/qemu-$each-static" "./$each" 2>/dev/null || true
    mv qemu_"$each"_*.core "$each.core"
    rm -f core core.*
done
cp s390x.core marked.core
printf '\3' | dd of=marked.core bs=1 seek=7 conv=notrunc status=none
export LD_LIBRARY_PATH=$PWD/usr/lib/x86_64-linux-gnu:$PWD/usr/lib/llvm-14/lib PYTHONPATH=$PWD/usr/lib/llvm-14/lib/python3.11/dist-packages
lldb=usr/lib/llvm-14/bin/lldb
"$lldb" --version
ask() {
    echo "$*: $(timeout 60 "$lldb" -b --no-lldbinit -o "target create $* " -o "thread list" 2>&1 |
        sed -nE 's/^error: //p; s/^Core file .* \((.*)\) was loaded\.$/loaded (\1)/p; s/^.* stop reason = (.*)$/\1/p' | paste -sd' ')"
}
{
    for each in s390x aarch64 x86_64; do ask --core "$each.core"; done
    ask --arch s390x-unknown-linux-gnu --core s390x.core
    ask --core marked.core
} | tee seen
diff seen - <<'S'
--core s390x.core: Don't know how to parse core file. Unsupported OS.
--core aarch64.core: Don't know how to parse core file. Unsupported OS.
--core x86_64.core: Don't know how to parse core file. Unsupported OS.
--arch s390x-unknown-linux-gnu --core s390x.core: loaded (s390x) signal SIGILL
--core marked.core: loaded (s390x) signal SIGILL
S
