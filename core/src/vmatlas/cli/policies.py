"""Policies, and the findings of earlier audits, from files: YAML and JSON, bounded, with the place of what is wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vmatlas.errors import OperationFailed, UsageError
from vmatlas.plain_yaml import read_yaml
from vmatlas.systems.posix import read_plain

if TYPE_CHECKING:
    from vmatlas.analysis.audit import Baseline, Policy

_MOST_OF_POLICY = 1 << 20
_MOST_OF_BASELINE = 1 << 28
_SUFFIXES = (".yaml", ".yml")


def policy_of(word: str) -> Policy:
    """A policy of ours by its name, or of a YAML file. Raises UsageError, OperationFailed."""
    from vmatlas.analysis.audit import PRESETS, Policy

    if word in PRESETS:
        return PRESETS[word]
    if "/" not in word and not word.endswith(_SUFFIXES) and not os.path.lexists(word):
        raise UsageError(f"'{word}' is no policy", hint=f"one of: {', '.join(PRESETS)}; or a YAML file")
    return Policy.of(read_yaml(read_text(word, _MOST_OF_POLICY), word), word)


def baseline_of(path: str) -> Baseline:
    """What an earlier audit found. Raises UsageError, OperationFailed."""
    import json

    from vmatlas.analysis.audit import Baseline

    try:
        told = json.loads(read_text(path, _MOST_OF_BASELINE))
    except (ValueError, RecursionError):
        told = None
    return Baseline.of(told, path)


def read_text(path: str, most: int) -> bytes:
    """A regular file, whole. Raises UsageError for another, and for more than `most` bytes; OperationFailed."""
    try:
        text, _ = read_plain(path, most + 1)
    except ValueError:
        raise UsageError(f"{path} is no regular file") from None
    except OSError as error:
        raise OperationFailed(f"{path} cannot be read: {error.strerror}", errno=error.errno or 0) from None
    if len(text) > most:
        raise UsageError(f"{path} has more than {most:,} bytes")
    return text
