"""What the mounted /proc is: whose numbers it shows, and whom it hides from whom.

The parsers are pure: the files they read are of this machine, or came over a wire. Facts: proc(5), pid_namespaces(7),
fs/proc/root.c and fs/proc/base.c (`has_pid_permissions`).
"""

from __future__ import annotations

import enum
import functools
import os
import time
from _thread import allocate_lock  # `threading.Lock`; that module takes a twentieth of the start of Python
from collections.abc import Callable
from errno import EACCES, ENOSYS, EPERM

from vmatlas.backend import NO_LIMIT, YES, Availability
from vmatlas.errors import AccessDenied, NoSuchProcess, Unsupported
from vmatlas.patterns import pattern
from vmatlas.values import NamedTuple

PROC = "/proc"
MOUNT = "mount -t proc proc /proc"
MOUNT_OWN = f"{MOUNT}, in a mount namespace of one's own: unshare --mount sh -c '{MOUNT} && exec COMMAND'"

CAPABILITIES = {19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN", 23: "CAP_SYS_NICE", 40: "CAP_CHECKPOINT_RESTORE"}
"""Those that matter for reading and advising other processes (include/uapi/linux/capability.h)."""

_SEES_ALL = 19
_OVERFLOW = 65534
"""How every group shows that a user namespace does not map (fs.overflowgid)."""

ReadsFile = Callable[[str], bytes | None]
"""Gives a file, whole, of this machine or of another; None where it cannot be read."""


# ---- how it is told ----


def head_of(descriptor: int, most: int) -> bytes:
    """What is left to read of a file, at most so many bytes. Raises OSError."""
    kept = bytearray()
    while len(kept) < most and (piece := os.read(descriptor, min(65536, most - len(kept)))):
        kept += piece
    return bytes(kept)


def lines_of(told: bytes) -> list[bytes]:
    """What the kernel tells in lines. Only "\n" ends one: that alone it escapes in names, or does not allow.

    Whatever else ends a line somewhere (CR, VT, FS, NEL) may stand in a name that a process chose, so
    `splitlines` forges lines, and `split()` words.
    """
    return told.removesuffix(b"\n").split(b"\n")


def key_of(status: bytes, key: bytes) -> bytes:
    """What a line "KEY: value" of /proc/PID/status tells; empty where there is none.

    Of fifty lines, which take twenty times as long to be taken apart, most who ask want one.
    """
    text = b"\n" + status
    start = text.rfind(b"\n" + key + b":")
    if start < 0:
        return b""
    start += len(key) + 2
    end = text.find(b"\n", start)
    return text[start : end if end >= 0 else None].strip(b" \t")


_STACK_LIMIT = b"Max stack size"


def stack_limit_of(limits: bytes) -> int | None:
    """Bytes that a growing stack may have, from "Max stack size" of /proc/PID/limits: the soft limit, RLIMIT_STACK.

    2**64 - 1 where it is unlimited; None where the text does not tell.
    """
    told = next((line for line in lines_of(limits) if line.startswith(_STACK_LIMIT)), b"")
    soft = told.removeprefix(_STACK_LIMIT).split(None, 1)[:1]
    if soft == [b"unlimited"]:
        return NO_LIMIT
    return int(soft[0]) if soft and soft[0].isdigit() else None


# ---- whose numbers ----

_checked: tuple[int, int] | None = None
"""The device and inode of /proc/self where it was found to be right. A fork has another inode, another /proc another
device: what was found is believed of just this process and just this /proc."""


def check_numbers() -> None:
    """Raises Unsupported unless /proc calls processes by the numbers that system calls of this process take.

    A /proc shows the pid namespace for which it was mounted. In another one its numbers mean other processes, and
    `/proc/self` may be called just what getpid() says, by chance.
    """
    global _checked
    try:
        found = os.stat(f"{PROC}/self")
        if _checked == (found.st_dev, found.st_ino):
            return
        number = os.readlink(f"{PROC}/self")
    except OSError as error:
        raise _without_self(error) from None
    own = os.getpid()
    if number != str(own):
        raise Unsupported(
            f"/proc is of another pid namespace: there, this process is {number} and {own} another one", hint=MOUNT_OWN
        )
    inside = numbers_of(read_own("status"))
    if len(inside) > 1:  # it begins with what this /proc says: a second number is one of a namespace below
        raise Unsupported(
            f"/proc is of another pid namespace, where this process happens to be {number}, too: "
            "others are not called alike",
            hint=MOUNT_OWN,
        )
    _checked = found.st_dev, found.st_ino


def probe_proc() -> Availability:
    """The same as the answer of a backend's `probe`, for those that ask /proc."""
    try:
        check_numbers()
    except Unsupported as error:
        return Availability(False, f"{error.message}: {error.hint}")
    return YES


def _without_self(error: OSError) -> Unsupported:
    if error.errno in (EPERM, EACCES, ENOSYS):
        return Unsupported(
            f"{PROC}/self may not be asked ({error.strerror}), which says whose numbers these are",
            hint="a filter of system calls (seccomp) or a security module refuses stat(2) or readlink(2)",
        )
    if os.path.lexists(f"{PROC}/self"):  # the link is there, and leads nowhere for who has no number there
        return Unsupported(
            "/proc is of another pid namespace, in which this process is not: its numbers are those of others",
            hint=MOUNT_OWN,
        )
    return Unsupported("/proc is not mounted", hint=MOUNT)


def numbers_of(status: bytes) -> tuple[int, ...]:
    """The line NSpid of /proc/PID/status (since Linux 4.1): the process's number in the pid namespace of that /proc,
    then in each one below that it is in. Empty where it is not told (before, and where CONFIG_PID_NS is off)."""
    numbers = key_of(status, b"NSpid").split()
    return tuple(map(int, numbers)) if all(map(_is_number, numbers)) else ()


def user_in(status: bytes) -> int | None:
    """Whose rights it has (the second number of `Uid:`), from /proc/PID/status; None where that is not told."""
    numbers = key_of(status, b"Uid").split(b"\t")
    return int(numbers[1]) if len(numbers) > 1 and _is_number(numbers[1]) else None


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 10


def lives_on(status: bytes) -> bool:
    """Whether a process is no zombie though its first thread is: by its `status`, for which nobody has to wait."""
    threads = key_of(status, b"Threads")
    return key_of(status, b"State")[:1] in _ENDED and _is_number(threads) and int(threads) > 1


def is_alive(status: bytes, process: int) -> bool:
    """Whether a thread is one of this process, and has not ended."""
    state = key_of(status, b"State")
    return key_of(status, b"Tgid") == b"%d" % process and state != b"" and state[:1] not in _ENDED


_ENDED = (b"Z", b"X", b"x")
"""States of proc_pid_stat(5)."""


# ---- whom it hides ----


class Hidepid(enum.Enum):
    """The mount option: its number, its word (shown since Linux 5.8), and what it means for whom it concerns."""

    OFF = 0, "off", "every process is listed"
    NO_ACCESS = 1, "noaccess", "other users' processes are listed, but nothing of them can be read"
    INVISIBLE = 2, "invisible", "other users' processes are not listed"
    PTRACEABLE = 4, "ptraceable", "only processes that the caller may trace are listed"

    def __init__(self, number: int, word: str, meaning: str) -> None:
        self.number = number
        self.word = word
        self.meaning = meaning

    def __str__(self) -> str:
        return f"{self.word} ({self.number})"


class ProcMount(NamedTuple):
    """How a /proc is mounted."""

    hidepid: Hidepid | None
    """None: by a word that is not known here."""
    told: str
    """The option as the kernel tells it."""
    group: int
    """Its members see everything but what PTRACEABLE hides. Root's, where no other is named."""


def mount_of(mountinfo: bytes) -> ProcMount | None:
    """The procfs that lies on top at /proc, from /proc/self/mountinfo; None when there is none."""
    top = _top(_lines(mountinfo))
    if top is None:
        return None
    kind, _, options = top[top.index(b"-") + 1 :][:3] if b"-" in top else (b"", b"", b"")
    if kind != b"proc":
        return None
    words = dict(word.partition("=")[::2] for word in options.decode("ascii", "replace").split(","))
    told, group = words.get("hidepid", "off"), words.get("gid", "0")
    mode = next((each for each in Hidepid if told in (str(each.number), each.word)), None)
    return ProcMount(mode, told, int(group) if group.isdigit() and len(group) <= 10 else 0)


def _lines(mountinfo: bytes) -> list[list[bytes]]:
    return [fields for line in lines_of(mountinfo) if len(fields := line.split(b" ")) > 9]


def _top(lines: list[list[bytes]]) -> list[bytes] | None:
    """What lies on top at /proc. Of several mounts on one place, each has the one below it as its parent."""
    there = [fields for fields in lines if fields[4] == b"/proc"]
    parents = {fields[1] for fields in there}
    return next((fields for fields in reversed(there) if fields[0] not in parents), None)


def covered(mountinfo: bytes) -> list[int]:
    """The processes over whose folder, or a file of it, something is mounted: what lies there tells of others."""
    if not any(part[:1].isdigit() for part in mountinfo.split(b" /proc/")[1:]):
        return []
    lines = _lines(mountinfo)
    top = _top(lines)
    if top is None:
        return []
    found = (_FOLDER.match(fields[4]) for fields in lines if fields[1] == top[0])
    return sorted({int(each[1]) for each in found if each})


_covered: tuple[float, frozenset[int]] = (float("-inf"), frozenset())
_LOOK_AGAIN = 0.1
"""Seconds for which the mount table is believed: it is long on a machine with many containers."""


def is_covered(pid: int) -> bool:
    """Whether something is mounted over the folder of a process, or a file of it, as of a moment ago."""
    global _covered
    now = time.monotonic()
    if now - _covered[0] > _LOOK_AGAIN:
        _covered = now, frozenset(covered(read_own("mountinfo")))
    return pid in _covered[1]


_FOLDER = pattern(rb"/proc/(\d{1,10})(?:/|$)")
_EFFECTIVE = pattern(rb"(?m)^CapEff:\s*([0-9a-f]{1,16})\s*$")
_SUPPLEMENTARY = pattern(rb"(?m)^Groups:([ \t\d]*)$")
_FOR_FILES = pattern(rb"(?m)^Gid:(?:\s+\d+){3}\s+(\d+)\s*$")


def capabilities_of(status: bytes) -> int | None:
    """The effective ones, as bits; None where they are not told."""
    found = _EFFECTIVE.search(status)
    return int(found[1], 16) if found else None


def _groups_of(status: bytes) -> set[int]:
    """Supplementary ones, and the one by which files are opened (the last of the line Gid)."""
    held = _SUPPLEMENTARY.search(status)
    own = _FOR_FILES.search(status)
    return {int(group) for group in (held[1].split() if held else [])} | ({int(own[1])} if own else set())


def who_is_not_listed(mountinfo: bytes, status: bytes, *, sees_first: bool) -> str | None:
    """Why processes may be missing from the list of /proc, in words; None when none is.

    `status` is the caller's; `sees_first`: whether it sees /proc/1, which is always there. A capability counts for the
    processes of its own user namespace and those below, so it is believed only of one who sees that.
    """
    mount = mount_of(mountinfo)
    if mount is None or mount.hidepid in (Hidepid.OFF, Hidepid.NO_ACCESS):
        return None  # those that are listed and cannot be read are errors, one by one
    if not sees_first:
        return f"not every process is shown: /proc is mounted with hidepid={mount.told}"
    is_member = mount.group in _groups_of(status) - {_OVERFLOW} and mount.hidepid is Hidepid.INVISIBLE
    if is_member or (capabilities_of(status) or 0) >> _SEES_ALL & 1:
        return None
    return f"processes of other users, if there are any, are not shown: /proc is mounted with hidepid={mount.told}"


def not_listed(read: ReadsFile) -> str | None:
    """The same, of whose files `read` gives."""
    mountinfo, status = (read(f"{PROC}/self/{name}") or b"" for name in ("mountinfo", "status"))
    reasons = []
    if (hidden_by := who_is_not_listed(mountinfo, status, sees_first=read(f"{PROC}/1/stat") is not None)) is not None:
        reasons.append(hidden_by)
    if (hidden_by := who_is_covered(mountinfo)) is not None:
        reasons.append(hidden_by)
    return "; ".join(reasons) or None


def who_is_covered(mountinfo: bytes) -> str | None:
    """Whose folder in /proc is not their own, in words; None when nobody's."""
    if not (pids := covered(mountinfo)):
        return None
    more = f" and {len(pids) - 1} more" if len(pids) > 1 else ""
    return f"process {pids[0]}{more} is not shown as it is: something is mounted over /proc/{pids[0]}"


def hidden(pid: int) -> AccessDenied | None:
    """The error for a process that is there and that /proc hides from us; None where it hides nobody."""
    mount = mount_of(read_own("mountinfo"))
    if mount is None or mount.hidepid is Hidepid.OFF:
        return None
    return AccessDenied(
        f"process {pid} is hidden from this user: it is there, and /proc is mounted with hidepid={mount.told}",
        pid=pid,
        hint=SHOWN_TO,
    )


def shows_another(pid: int, other: int | None) -> AccessDenied:
    """The error for a process over whose folder in /proc something is mounted: that of another process, for one."""
    told = f"tells of process {other}" if other is not None else "does not tell of it"
    return AccessDenied(f"{PROC}/{pid} {told}: something else is mounted there", pid=pid, hint=f"umount {PROC}/{pid}")


SHOWN_TO = "it is shown to its own user, and to who has the capability CAP_SYS_PTRACE: try sudo"


def exists(pid: int) -> bool:
    """Whether there is a process of that number, whatever /proc shows: asked of the kernel's own calls."""
    if pid < 1:  # 0 and below mean groups of processes to kill(2)
        return False
    try:
        os.close(os.pidfd_open(pid))
    except ProcessLookupError:
        return False
    except (OSError, AttributeError):  # before Linux 5.3 there is none; a thread's number is refused
        return _can_be_signalled(pid)
    return True


def process_of_thread(number: int) -> int | None:
    """The process of which a number is a thread's; None where it is a process's own, or nobody's.

    /proc lists no thread beside the processes, and opens the folder of each by its number (proc_pid_lookup()): all in
    it reads as if it were a process. pidfd_open tells at a fraction of what `status` costs: of a thread it says EINVAL,
    ENOENT on newer kernels; where it says anything but yes the line Tgid of `status` decides.
    """
    try:
        os.close(os.pidfd_open(number))
    except (OSError, AttributeError, OverflowError):
        told = key_of(read_file(f"{PROC}/{number}/status") or b"", b"Tgid")
        return int(told) if told.isdigit() and len(told) <= 10 and int(told) != number else None
    return None


def is_of_thread(number: int, process: int) -> NoSuchProcess:
    """The error for a thread's number where a process's is asked for: its memory is that of its process, once more."""
    return NoSuchProcess(
        f"{number} is a thread of process {process}, and no process",
        pid=number,
        hint=f"ask for {process}; as the thread sees it: vmatlas maps {process} --thread {number}",
    )


def _can_be_signalled(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


# ---- what stands between ----

_EMULATORS = pattern(
    r"(?:.*/)?(\.buildkit_qemu_emulator|(?:\.?buildkit[-_])?qemu-(?:aarch64(?:_be)?|alpha|arm(?:eb)?|cris|hexagon|hppa|i386|loongarch64|m68k|microblaze(?:el)?|"
    r"mips(?:el|64|64el|n32|n32el)?|nios2|or1k|ppc(?:64|64le)?|riscv(?:32|64)|s390x|sh4(?:eb)?|sparc(?:32plus|64)?|"
    r"x86_64|xtensa(?:eb)?)(?:-static)?(?:-\d[\d.]*)?)(?: \(deleted\))?"
)
"""The programs of QEMU that run programs of other processors (qemu-user), for binfmt_misc above all; BuildKit has
copies of them under names of its own."""


def emulator_called(program: str) -> str | None:
    """The emulator's name, where a program that runs is one of qemu-user's; else None."""
    found = _EMULATORS.fullmatch(program)
    return found[1] if found else None


def told_by(emulator: str) -> str:
    """What is amiss with the map of a process that an emulator runs."""
    return (
        f"this process runs under an emulator ({emulator}), which tells its map in the kernel's place: "
        "the rights need not be those of the program, and the emulator's own memory is not told"
    )


@functools.cache
def own_emulator() -> str | None:
    """The emulator that runs this process (qemu-user); None: the kernel itself does.

    Such a program answers for some files of /proc/self that are named by their path, so as to show what the program
    that it runs would see, and not for those below a descriptor. The two names of the running program differ then; a
    kernel gives the same twice.
    """
    try:
        folder = os.open(f"{PROC}/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            by_path, below = os.readlink(f"{PROC}/self/exe"), os.readlink("exe", dir_fd=folder)
        finally:
            os.close(folder)
    except OSError:
        return None
    return None if by_path == below else os.path.basename(below)


# ---- for `vmatlas doctor` ----

UNKNOWN = "unknown, for want of /proc"


def rights_told(mountinfo: bytes, status: bytes, yama: bytes | None) -> list[tuple[str, str]]:
    """Capabilities, Yama's ptrace scope and hidepid, in words. `yama`: its file, None where there is none."""
    effective = capabilities_of(status)
    if effective is None:
        held = UNKNOWN
    else:
        names = [name for bit, name in CAPABILITIES.items() if effective >> bit & 1]
        held = ", ".join(names) or "none that matter here"
    scope = (yama or b"").decode("ascii", "replace").strip()
    if scope:
        scope += " (limits attaching, not reading maps)"
    else:
        scope = "no Yama" if status else UNKNOWN
    told = [("capabilities", held), ("yama ptrace_scope", scope), ("/proc hidepid", _hidepid_told(mountinfo))]
    return told if (who := who_is_covered(mountinfo)) is None else [*told, ("/proc, of processes", who)]


_JUDGING = ("apparmor", "landlock", "selinux", "smack", "tomoyo")
"""Security modules that judge who may look at whom (the hook ptrace_access_check); yama does where one attaches."""


def may_stand_against_it(modules: bytes | None) -> str:
    """What may be, where CAP_SYS_PTRACE is held and a map may not be read. `modules`: /sys/kernel/security/lsm, None
    where it cannot be read."""
    held = "CAP_SYS_PTRACE is held: perhaps "
    if modules is None:
        return f"{held}a security module stands against it (AppArmor, SELinux), whose log says which rule, or a sandbox"
    judging = [name for name in modules.decode("ascii", "replace").strip().split(",") if name in _JUDGING]
    if not judging:
        return f"{held}a sandbox stands against it: no security module is on that judges it"
    return f"{held}{' or '.join(judging)} stands against it, whose log says which rule, or a sandbox"


def _hidepid_told(mountinfo: bytes) -> str:
    if not mountinfo:
        return UNKNOWN
    mount = mount_of(mountinfo)
    if mount is None:
        return "unknown: there is no procfs at /proc in the mount table"
    if mount.hidepid is None:
        return f"{mount.told}, which is not known here"
    told = f"{mount.hidepid}: {mount.hidepid.meaning}"
    if mount.hidepid is Hidepid.OFF:
        return told
    spared = ["have CAP_SYS_PTRACE"]  # one of the two is enough (`has_pid_permissions`)
    if mount.hidepid is not Hidepid.PTRACEABLE:
        spared.append(f"are in the group {mount.group}")
    return f"{told}; not for those who {' or '.join(spared)}"


def read_own(name: str) -> bytes:
    """A file of /proc/self, whole; empty where it cannot be read."""
    return read_file(f"{PROC}/self/{name}") or b""


def read_file(path: str) -> bytes | None:
    """A file, whole; None where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None


_PIECE, _PIECES = bytearray(4096), allocate_lock()
"""Made beforehand: who has no region left may get no memory, either."""


def own_regions() -> int | None:
    """How many of this process count towards vm.max_map_count; None where that is not told. It takes no memory.

    By the lines of /proc/self/maps. What the kernel shows to everybody ([vsyscall], [vectors]: `get_gate_vma`) has a
    line and is none of the process's.
    """
    count = 0
    try:
        with _PIECES:
            descriptor = os.open(f"{PROC}/self/maps", os.O_RDONLY | os.O_CLOEXEC)
            try:
                while size := os.readv(descriptor, [_PIECE]):
                    count += _PIECE.count(b"\n", 0, size)
                    count -= _PIECE.count(b"[vsyscall]\n", 0, size) + _PIECE.count(b"[vectors]\n", 0, size)
            finally:
                os.close(descriptor)
    except (OSError, MemoryError):
        return None
    return count or None


def most_regions() -> int | None:
    """vm.max_map_count: how many regions a process may have; None where that is not told. It takes no memory."""
    try:
        with _PIECES:
            descriptor = os.open(f"{PROC}/sys/vm/max_map_count", os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.readv(descriptor, [_PIECE])
            finally:
                os.close(descriptor)
            told = bytes(_PIECE[: min(size, 20)]).strip()
    except (OSError, MemoryError):
        return None
    return int(told) if told.isdigit() else None
