"""An agent by ssh: put there, run, removed. Asks nothing more than ssh does, and uses what ssh is configured to use.

One session does it all: the other side's shell says what machine it is, gets the agent that is built for that over its
standard input, writes it to a folder of its own, and runs it; when the session ends, however it ends, it removes the
folder. It takes `uname`, `mktemp`, `head -c`, `wc`, `chmod` and `rm`, as coreutils, busybox and BSD have them; where
an agent stays also `ls`, `mkdir`, `mv`, and `sha256sum` if there is one.

Others may write to the folder that was named (/tmp). So what is run is decided on by the working directory, which
nobody can put something else in the place of: it is this user's, and what lies in it nobody else has put there.
"""

from __future__ import annotations

import shlex
import shutil
import time
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl

from vmatlas.errors import TargetLost, Unsupported, UsageError
from vmatlas.installed import how_to_install
from vmatlas.target.agent import Agent, AgentTarget, Limits
from vmatlas.target.asking import LOGIN_SECONDS, MOST_GREETING, Deadline
from vmatlas.target.hints import is_of_another_processor
from vmatlas.target.streams import ByteStream, ChildStream, StreamEnded

GREETING = b"vmatlas-here "
READY = b"vmatlas-ready"
ANSWER = b"vmatlas-"

_STEPS = (
    "set -e",
    "umask 077",
    "folder=",
    # This shell stays, to clean up when the agent has ended, which it does with its input; and a second one, for when
    # somebody kills this one.
    "trap 'rm -rf \"$folder\"' EXIT",
    "trap 'exit 1' HUP INT TERM PIPE",
    'folder=$(mktemp -d "$place/vmatlas-agent.XXXXXX")',
    'cd "$folder"',
    '[ -O . ] || { printf "%s is of another user\\n" "$folder" >&2; exit 1; }',
    'printf "\\n%s%s %s\\n" vmatlas- here "$(uname -sm) $(uname -p 2>/dev/null)"',
    "read -r size",
    'head -c "$size" >agent',
    '[ "$(($(wc -c <agent)))" -eq "$size" ]',
    "chmod 700 agent",
    # Some `head` reads ahead: the first frame may only be sent after this.
    'printf "%s%s\\n" vmatlas- ready',
    '(code=0; ./agent || code=$?; rm -rf "$folder"; exit "$code")',
)
"""One line for the shell there: some login shells (csh) pass no others on."""

_KEEPING = (
    "set -e",
    "umask 077",
    "part=",
    "trap 'rm -f \"$part\"' EXIT",
    "trap 'exit 1' HUP INT TERM PIPE",
    'mkdir -p "$place"',
    'cd -P "$place"',
    "above=$(pwd -P)",
    "mkdir -p vmatlas",
    "cd -P ./vmatlas",
    # Where a link leads, somebody else has chosen. The physical path is of what was gone to, whatever the name is now.
    '[ "$(pwd -P)" = "${above%/}/vmatlas" ] || { printf "%s/vmatlas is a link\\n" "$place" >&2; exit 1; }',
    '[ -O . ] || { printf "%s/vmatlas is of another user\\n" "$place" >&2; exit 1; }',
    "case $(ls -ld .) in d????-??-*) ;; *) "
    'printf "%s/vmatlas may be written to by others\\n" "$place" >&2; exit 1;; esac',
    'printf "\\n%s%s %s\\n" vmatlas- here "$(uname -sm) $(uname -p 2>/dev/null)"',
    "read -r size digest",
    "agent=./agent-$digest",
    # What is there is run if it is what was put there: a file, no link, this user's and for no other to write, whole.
    'is_whole() { if [ -L "$agent" ]; then return 1; fi; [ -f "$agent" ] && [ -O "$agent" ] && '
    'case $(ls -ld "$agent") in -??x?-??-*) ;; *) return 1;; esac && [ "$(($(wc -c <"$agent")))" -eq "$size" ] && '
    'sum=$(sha256sum <"$agent" 2>/dev/null || printf %s "$digest") && [ "${sum%% *}" = "$digest" ]; }',
    'if is_whole; then printf "%s%s\\n" vmatlas- kept; else printf "%s%s\\n" vmatlas- needed',
    "part=$(mktemp ./part.XXXXXX)",
    'head -c "$size" >"$part"',
    '[ "$(($(wc -c <"$part")))" -eq "$size" ]',
    'chmod 700 "$part"',
    'if [ -L "$agent" ] || [ -d "$agent" ]; then rm -rf "$agent"; fi',  # or it would be moved into that
    'mv -f "$part" "$agent"',
    'is_whole || { printf "%s/vmatlas keeps no agent as it was sent\\n" "$place" >&2; exit 1; }',
    'printf "%s%s\\n" vmatlas- ready; fi',
    'exec "$agent"',
)
"""The same, where an agent stays there under its digest: whole, since it is renamed when all of it has come."""


def connect_by_ssh(rest: str, limits: Limits, *, asks: bool = True, keeps: bool = False) -> AgentTarget:
    """`rest` is what ssh takes, or USER@HOST:PORT; then perhaps ?folder=PATH, where the agent is put.

    `asks`: whether ssh may ask who sits there (for a password, whether a host is known); without, it fails instead.
    `keeps`: the agent stays there under its digest, in ~/.cache/vmatlas (or FOLDER/vmatlas), and is not sent again.
    Raises UsageError, Unsupported, TargetLost.
    """
    name = f"ssh:{rest}"
    destination, _, options = rest.partition("?")
    try:
        stream = ChildStream(command_for(destination, _folder_of(options, name), asks=asks, keeps=keeps))
    except StreamEnded as error:
        raise TargetLost(f"no connection: {error}", target=name) from None
    try:
        system, machine = Login(stream, name, limits.deadline).greeted()
        agent = built_agent(system, machine, name).read_bytes()
        ready = Login(stream, name, limits.deadline)
        digest = b" " + sha256(agent).hexdigest().encode() if keeps else b""
        stream.send(b"%d%s\n" % (len(agent), digest), limits.connecting())
        if not keeps or ready.answer() == b"needed":
            stream.send(agent, LOGIN_SECONDS if limits.deadline is None else min(limits.deadline.left, LOGIN_SECONDS))
            ready.wait_for(READY + b"\n")
    except StreamEnded as error:
        stream.close()
        raise TargetLost(
            f"no agent over ssh: {error}", target=name, last_words=stream.last_words(), hint=_hint(stream.last_words())
        ) from None
    except BaseException:
        stream.close()
        raise
    try:
        return AgentTarget(Agent(stream, name, limits))
    except TargetLost as error:  # what the shell says of a program that it cannot run comes after its greeting
        error.hint = error.hint or _hint(error.last_words)
        raise


def _folder_of(options: str, name: str) -> str | None:
    """The folder there that an option names. Raises UsageError."""
    asked = dict(parse_qsl(options, keep_blank_values=True))
    folder = asked.pop("folder", None)
    if asked or (options and folder is None) or (folder is not None and not _is_folder(folder)):
        raise UsageError(
            f"'{name}' has an option that is none",
            hint="the one there is: ssh:root@board?folder=/an/absolute/path",
        )
    return folder


def _is_folder(path: str) -> bool:
    return path.startswith("/") and path.isprintable() and "!" not in path  # csh takes that for its history


def command_for(destination: str, folder: str | None = None, *, asks: bool = True, keeps: bool = False) -> list[str]:
    """The ssh command; `folder` there is where the agent is put, by default TMPDIR or /tmp. The others: see above.

    Raises UsageError for what ssh would take for an option, Unsupported when there is no ssh.
    """
    host, colon, port = destination.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.endswith("]")):  # a bare IPv6 address is a host
        host, port = destination, ""
    host = host.replace("[", "").replace("]", "")
    if host.startswith("-") or not host or any(character.isspace() for character in host):
        raise UsageError(f"'ssh:{destination}' names no host", hint="for example ssh:root@board or ssh:root@board:2222")
    ssh = shutil.which("ssh")
    if ssh is None:
        raise Unsupported("there is no ssh here", hint="on Debian and Ubuntu: apt-get install openssh-client")
    if keeps:
        place = f"place={shlex.quote(folder)}" if folder is not None else 'place="${XDG_CACHE_HOME:-$HOME/.cache}"'
        steps: tuple[str, ...] = (place, *_KEEPING)
    else:
        place = f"place={shlex.quote(folder)}" if folder is not None else 'place="${TMPDIR:-/tmp}"'
        steps = (place, *_STEPS)
    command = f"exec sh -c {shlex.quote('; '.join(steps))}"
    quiet = [] if asks else ["-o", "BatchMode=yes"]
    return [ssh, "-T", "-e", "none", *quiet, *(["-p", port] if port else []), "--", host, command]


class Login:
    """What comes before an agent speaks: for at most so long, and so many bytes, in all."""

    def __init__(self, stream: ByteStream, name: str, deadline: Deadline | None = None) -> None:
        self._stream = stream
        self._deadline = deadline
        self._name = name
        self._said = bytearray()
        self._began = time.monotonic()

    def greeted(self) -> tuple[str, str]:
        """System and processor of the other side, as its uname says; what a login prints before is passed over.

        Raises Unsupported, TargetLost, StreamEnded.
        """
        start = self.wait_for(b"\n" + GREETING)
        line = bytes(self._said[start : self.wait_for(b"\n", start) - 1])
        words = line.decode("utf-8", "replace").split()
        if len(words) < 2:
            raise Unsupported(f"uname there says {' '.join(words)[:100]!r}", target=self._name)
        # On QNX `uname -m` tells the board: x86pc for 32 and for 64 bits. Elsewhere `uname -p` may say anything.
        return words[0], words[2] if words[0] == "QNX" and len(words) == 3 else words[1]

    def answer(self) -> bytes:
        """The word behind "vmatlas-" in its next line of that form. Raises TargetLost, StreamEnded."""
        start = self.wait_for(ANSWER)
        return bytes(self._said[start : self.wait_for(b"\n", start) - 1])

    def wait_for(self, mark: bytes, start: int = 0) -> int:
        """Where the mark ends that stands behind `start`, once it has come. Raises TargetLost, StreamEnded."""
        while (at := self._said.find(mark, start)) < 0:
            seconds = time.monotonic() - self._began
            if self._deadline is not None:
                self._deadline.check(self._name)
            if len(self._said) > MOST_GREETING or seconds > LOGIN_SECONDS:
                raise TargetLost(
                    f"no shell over ssh: {len(self._said):,} bytes came in {seconds:.3g} s, and no agent",
                    target=self._name,
                    last_words=self._said[-2000:].decode("utf-8", "replace"),
                    hint=_hint(self._stream.last_words()),
                )
            self._said += self._stream.receive(1.0)
        return at + len(mark)


def built_agent(system: str, machine: str, name: str) -> Path:
    """The agent for a machine. Raises Unsupported, which says how to get one."""
    try:
        import vmatlas_agents
    except ImportError:
        raise Unsupported(
            "putting an agent there needs the built agents", target=name, hint=how_to_install("vmatlas-agents")
        ) from None
    try:
        return vmatlas_agents.path(system, machine)
    except vmatlas_agents.AgentMissing as error:
        raise Unsupported(str(error), target=name) from None


def _hint(words: str) -> str | None:
    if any(said in words for said in ("agent: Permission denied", "agent: cannot execute", "agent: Operation not")):
        return "no program may be run from that folder there: name another, such as ssh:HOST?folder=/run"
    if "mktemp" in words or "can't create" in words or "No space left" in words:
        return "the agent cannot be put into that folder there: name another, such as ssh:HOST?folder=/run"
    if is_of_another_processor(words) or "agent: 1:" in words:
        return "programs there are for another processor than uname says: put an agent there, then agent:ssh HOST PATH"
    if "Permission denied" in words or "Host key verification failed" in words:
        return "does ssh itself get in? Try the same destination with ssh alone; ~/.ssh/config serves here, too"
    return None
