"""Policies, and the findings of earlier audits, from files: YAML and JSON, bounded, with the place of what is wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vmatlas.errors import OperationFailed, UsageError
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
    return Policy.of(_yaml(word, read_text(word, _MOST_OF_POLICY)), word)


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


def _yaml(path: str, text: bytes) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """A key that stands twice is a slip: the library takes the last one without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"'{key.value}' stands there twice", key.start_mark
                        )
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # a SafeLoader: it makes plain values alone
    except RecursionError:
        raise UsageError(f"{path} is nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark is not None else path
        problem = getattr(error, "problem", None) or "it is no text"
        raise UsageError(f"{where}: no YAML: {problem}") from None
