"""Reports of crashes as older and newer versions of their writers lay them out: what each tells is read."""

from __future__ import annotations

from typing import NamedTuple

import pytest

import vmatlas
from vmatlas import Capture, Unsupported, operations, remains

MAPS = b"""00400000-00401000 r-xp 00000000 08:01 123 /usr/lib/jvm/java/bin/java
7f3a1c2c1000-7f3a1c47f000 r-xp 00000000 08:01 456                        /lib/x86_64-linux-gnu/libc.so.6
7f3a1d0b3000-7f3a1d0b6000 ---p 00000000 00:00 0 
7f3a1d0b6000-7f3a1d1b4000 rw-p 00000000 00:00 0 
"""  # noqa: W291


def hs_err(
    said: str = "SIGSEGV (0xb) at pc=0x00007f3a1c2d3e40",
    tid: str = "4712",
    siginfo: str = "siginfo: si_signo: 11 (SIGSEGV), si_code: 1 (SEGV_MAPERR), si_addr: 0x0000000000000010",
    vm: str = "linux-amd64",
    head: str = "# A fatal error has been detected by the Java Runtime Environment:",
) -> bytes:
    return (
        f"#\n{head}\n#\n#  {said}, pid=4711, tid={tid}\n#\n"
        f"# JRE version: Java(TM) SE Runtime Environment (8.0_20-b26) (build 1.8.0_20-b26)\n"
        f"# Java VM: Java HotSpot(TM) 64-Bit Server VM (25.20-b23 mixed mode {vm} compressed oops)\n\n"
        'Current thread (0x00007f3a14009000):  JavaThread "main" [_thread_in_native, id=4712, '
        f"stack(0x00007f3a1d0b3000,0x00007f3a1d1b4000)]\n\n{siginfo}\n\n"
        "Stack: [0x00007f3a1d0b3000,0x00007f3a1d1b4000],  sp=0x00007f3a1d1b2000,  free space=1020k\n\n"
        "Dynamic libraries:\n"
    ).encode() + (MAPS + b"Total number of mappings: 4\n\n\nVM Arguments:\n")


def tombstone(address: str, *, head: str = "", end: str = "", abort: str = "", signal: str = "11 (SIGSEGV)") -> bytes:
    return (
        f"{'*** ' * 15}***\n{head}pid: 1123, tid: 1150, name: Thread-77  >>> com.example.crash <<<\n"
        f"signal {signal}, code 1 (SEGV_MAPERR), fault addr {address}\n{abort}"
        "    r0 00000000  r1 0000047e  r2 00000006  r3 00000000\n"
        "    ip 0000047e  sp a4bff100  lr b6d5c7b9  pc b6d81f60  cpsr 60000010\n\n"
        f"backtrace:\n    #00  pc 00021a3e  /system/lib/libc.so\n{end}"
    ).encode()


class Told(NamedTuple):
    text: bytes
    signal: str | None
    address: int | None
    thread: int | None
    code: int | None
    said: str | None
    pid: int


SEGV = "AddressSanitizer: SEGV on unknown address"
CASES = {
    "hs_err of JDK 7": Told(
        hs_err(
            tid="139887342651136", siginfo="siginfo:si_signo=SIGSEGV: si_errno=0, si_code=1 (SEGV_MAPERR), si_addr=0x10"
        ),
        "SIGSEGV", 0x10, 4712, 1, None, 4711,
    ),
    "hs_err of a late JDK 8": Told(hs_err(tid="0x00007f3a1d1b3700"), "SIGSEGV", 0x10, 4712, 1, None, 4711),
    "hs_err of an assertion": Told(
        hs_err(said="Internal Error (sharedRuntime.cpp:1234)", siginfo=""),
        None, None, 4712, None, "Internal Error (sharedRuntime.cpp:1234)", 4711,
    ),
    "hs_err of memory that ran out": Told(
        hs_err(
            said="Out of Memory Error (os_linux.cpp:2795)", siginfo="",
            head="# There is insufficient memory for the Java Runtime Environment to continue.",
        ),
        None, None, 4712, None, "Out of Memory Error (os_linux.cpp:2795)", 4711,
    ),
    "tombstone of Android 4.4": Told(tombstone("deadbaad"), "SIGSEGV", 0xDEADBAAD, 1150, 1, None, 1123),
    "tombstone of Android 5, of abort": Told(
        tombstone("--------", signal="6 (SIGABRT)", abort="Abort message: 'JNI DETECTED ERROR'\n"),
        "SIGABRT", None, 1150, 1, "'JNI DETECTED ERROR'", 1123,
    ),
    "tombstone in logcat": Told(
        b"10-11 11:22:33.44  12  12 I chatty  : between\n"
        + b"".join(b"10-11 11:22:33.44  12  12 F DEBUG   : %b\n" % line for line in tombstone("0x0").split(b"\n")),
        "SIGSEGV", 0, 1150, 1, None, 1123,
    ),
    "tombstone in an older logcat": Told(
        b"".join(b"F/DEBUG   (  201): %b\n" % line for line in tombstone("0x10").split(b"\n")),
        "SIGSEGV", 0x10, 1150, 1, None, 1123,
    ),
    "abort of Go": Told(
        b"SIGABRT: abort\nPC=0x45e2b3 m=0 sigcode=18446744073709551610\n\ngoroutine 0 [idle]:\n",
        "SIGABRT", None, None, -6, None, 0,
    ),
    "address that is not canonical, in Go's decimal digits": Told(
        b"SIGSEGV: segmentation violation\nPC=0x45e2b3 m=0 sigcode=128 addr=0x0\n\ngoroutine 1 gp=0x1 m=0 [syscall]:\n",
        "SIGSEGV", None, None, 128, None, 0,
    ),
    "stack overflow of Go": Told(
        b"runtime: goroutine stack exceeds 1000000000-byte limit\nruntime: sp=0xc0200e0388 stack=[0xc0200e0000, 0xc0]\n"
        b"fatal error: stack overflow\n\ngoroutine 1 [running]:\n",
        None, None, None, None, "fatal error: stack overflow", 0,
    ),
    "sanitizer of gcc 4.8": Told(
        b"ASAN:SIGSEGV\n=====\n==34== ERROR: AddressSanitizer: SEGV on unknown address 0x000000000010"
        b" (pc 0x4007a8 sp 0x7fffb0cbe0c0 bp 0x7fffb0cbe0d0 T0)\n",
        "SIGSEGV", 0x10, None, None, f"{SEGV} 0x000000000010", 34,
    ),
    "sanitizer that saw a stack overflow": Told(
        b"==10==ERROR: AddressSanitizer: stack-overflow on address 0x7ffc3e2d7ff8 (pc 0x55 bp 0x7f sp 0x7f T0)\n",
        "SIGSEGV", 0x7FFC3E2D7FF8, None, None, "AddressSanitizer: stack-overflow on address 0x7ffc3e2d7ff8", 10,
    ),
    "MemorySanitizer": Told(
        b"==77==WARNING: MemorySanitizer: use-of-uninitialized-value\n    #0 0x49c0c8 in main /tmp/x.c:3\n",
        None, None, None, None, "MemorySanitizer: use-of-uninitialized-value", 77,
    ),
    "ThreadSanitizer": Told(
        b"==================\nWARNING: ThreadSanitizer: data race (pid=19219)\n  Write of size 4 at 0x7fcf47b21bc0\n",
        None, None, None, None, "ThreadSanitizer: data race", 19219,
    ),
    "what glibc printed": Told(
        b"*** Error in `./a.out': double free or corruption (fasttop): 0x0000000000c5b010 ***\n"
        b"======= Backtrace: =========\n./a.out[0x4005a8]\n======= Memory map: ========\n" + MAPS + b"Aborted\n",
        None, None, None, None, "Error in `./a.out': double free or corruption (fasttop): 0x0000000000c5b010", 0,
    ),
}  # fmt: skip


def capture_of(content: bytes) -> Capture:
    found = remains.read_bytes(content, "text", 0.0)
    assert found is not None
    return found


@pytest.mark.parametrize("which", CASES)
def test_report_of_another_version_tells_the_same(which: str) -> None:
    told = CASES[which]
    found = operations.explain(capture_of(told.text))
    crash = found.crash
    assert (crash.signal_name, crash.fault_address, crash.code, crash.said, found.space.pid) == (
        told.signal,
        told.address,
        told.code,
        told.said,
        told.pid,
    )
    assert (crash.threads[0].number if crash.threads else None) == told.thread
    if b"7f3a1c2c1000" in told.text:
        assert [each.start for each in found.space] == [0x400000, 0x7F3A1C2C1000, 0x7F3A1D0B3000, 0x7F3A1D0B6000]


def test_number_that_no_text_tells_is_not_shown_as_zero() -> None:
    assert operations.explain(capture_of(CASES["abort of Go"].text)).text.startswith("A process was stopped by SIGABRT")


@pytest.mark.parametrize(("vm", "system"), [("windows-amd64", "Windows"), ("bsd-aarch64", "macOS or a BSD")])
def test_report_of_a_jvm_of_another_system_is_refused_by_name(vm: str, system: str) -> None:
    with pytest.raises(Unsupported, match=system):
        capture_of(hs_err(vm=vm))


def test_all_threads_of_a_tombstone_are_told_and_its_build_ids_are_no_names() -> None:
    end = (
        "\nmemory map (3 entries):\n"
        "    a4b00000-a4bfffff rw-         0    100000  [stack]\n"
        "--->b6c00000-b6c00fff ---         0      1000  [anon:scudo:primary_reserve]\n"
        "    b6d4a000-b6dbdfff r-x         0     74000  /system/lib/libc.so  (BuildId: 00ff)  (load bias 0x1000)\n"
        "\nopen files:\n    fd 0: /dev/null (unowned)\n"
        f"{'--- ' * 15}---\npid: 1123, tid: 1151, name: other  >>> com.example.crash <<<\n"
        "    r0 00000000  r1 0000047e  r2 00000006  r3 00000000\n"
        "    ip 0000047e  sp a4bfe100  lr b6d5c7b9  pc b6d81f70  cpsr 60000010\n"
        f"{'--- ' * 15}---\npid: 1123, tid: 1152, name: last  >>> com.example.crash <<<\n"
    )
    capture = capture_of(tombstone("0xb6c00010", end=end, head="Cmdline: com.example.crash\n"))
    found = operations.explain(capture)
    assert [(each.number, each.stack_pointer) for each in found.threads] == [
        (1150, 0xA4BFF100),
        (1151, 0xA4BFE100),
        (1152, None),
    ]
    assert [each.label for each in vmatlas.replay(capture)] == [
        "[stack]",
        "[anon:scudo:primary_reserve]",
        "/system/lib/libc.so",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"1234:   sleep 100\nAddress           Kbytes     RSS   Dirty Mode  Mapping\n000055d0c1e00000 8 8 0 r---- x\n",
        b"1234:   sleep 100\n000055d0c1e00000      8K r---- sleep\n total             8K\n",
    ],
)
def test_pmap_without_all_columns_is_refused_with_what_to_ask_for(content: bytes) -> None:
    with pytest.raises(Unsupported, match="without -X") as refused:
        capture_of(content)
    assert "pmap -XX -p" in (refused.value.hint or "")
