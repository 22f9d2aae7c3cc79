"""What can go wrong between a machine's description and its agent's hello. Each error is one line and, mostly, a
hint.
"""

from __future__ import annotations

from vmatlas.errors import TargetLost, UsageError, VmatlasError


class ImagesError(VmatlasError):
    """The base of this distribution's own errors; `target` is the machine's name where one is concerned."""


class MachineError(ImagesError, UsageError):
    """A description that is wrong, or a name that no description has. The message names file, line and field."""


class NotRunnable(ImagesError):
    """The machine cannot run here, for a reason that is nobody's fault: no QEMU, no image, no network."""


class FetchError(ImagesError):
    """What should have been fetched could not be had: the message says what, from where and why."""


class NotThere(FetchError):
    """The server answers, and says that it does not have the file."""


class VerificationError(FetchError):
    """Bytes that are not what their publisher signed or what their digest says. They are never kept."""


class StageError(ImagesError, TargetLost):
    """A machine ended, panicked or fell silent in `stage`; `last_words` is the end of its console."""

    def __init__(self, stage: str, message: str, *, target: str, last_words: str = "", hint: str | None = None) -> None:
        super().__init__(f"{stage}: {message}", last_words=last_words, target=target, hint=hint)
        self.stage = stage


class NotAsExpected(ImagesError):
    """The machine runs and is not what its description says (`expect`)."""

    def __init__(self, machine: str, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}", target=machine)
