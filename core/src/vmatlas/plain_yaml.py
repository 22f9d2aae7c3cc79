"""Texts that users write in YAML: plain values alone, at a cost that grows with the text and no faster.

Of YAML 1.1 is left out what nobody means and what costs: tags that are written out (`!!timestamp x`), numbers of base
60 (12:30 is a text) and of more digits than anything here has, keys that stand twice (the library takes the last
without a word), values that hold themselves. Dates are dates. PyYAML does the rest; values are made here, as its events
come: its own tree of a text takes sixty times as much memory as the text.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from vmatlas.errors import UsageError, legible

_WHOLE = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F_]{1,20}|0[0-7_]{1,24}|0b[01_]{1,70}|(?:0|[1-9][0-9_]{0,19}))$")
_FRACTION = re.compile(
    r"(?:[-+]?(?:[0-9][0-9_]{0,99}\.[0-9_]{0,100}|\.[0-9][0-9_]{0,99})(?:[eE][-+][0-9]{1,5})?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_TAG = "tag:yaml.org,2002:"
_INT, _FLOAT, _STR, _MERGE, _VALUE = (_TAG + word for word in ("int", "float", "str", "merge", "value"))


def read_yaml(text: str | bytes, where: str) -> Any:
    """The values of a text; None of an empty one. `where`: what it is called in errors.

    Raises UsageError, with the line.
    """
    import yaml

    try:
        with _uncollected():
            return _Reader(text).document()
    except RecursionError:
        raise UsageError(f"{where} is nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{where}, line {mark.line + 1}" if mark is not None else where
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0] or "it is no text"
        raise UsageError(f"{at}: no YAML: {legible(problem, 200)}") from None


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Looking for loops among all that was made so far, again and again as it grows, takes half of the time of a large
    text, in which there is none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Reader:
    """One text, event by event."""

    def __init__(self, text: str | bytes) -> None:
        import yaml

        class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
            """Resolves and makes plain values; a class of its own, since the library keeps its rules in classes."""

            yaml_implicit_resolvers: ClassVar = {
                first: [(tag, {_INT: _WHOLE, _FLOAT: _FRACTION}.get(tag, pattern)) for tag, pattern in rules]
                for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
            }

        self._yaml = yaml
        self._loader = Loader(text)
        self._firsts = frozenset(Loader.yaml_implicit_resolvers)
        """Letters with which a text may begin that is something else."""
        self._anchors: dict[str, Any] = {}

    def document(self) -> Any:
        """Its one value. Raises YAMLError, ValueError, RecursionError."""
        events, next_event = self._yaml.events, self._loader.get_event
        next_event()  # the stream's beginning
        if isinstance(next_event(), events.StreamEndEvent):
            return None
        value = self._value(next_event())
        next_event()  # the document's end
        if not isinstance(another := next_event(), events.StreamEndEvent):
            raise self._wrong("but found another document", another)
        return value

    def _value(self, event: Any) -> Any:
        events = self._yaml.events
        if isinstance(event, events.ScalarEvent):
            value = self._scalar(event, self._tag(event))
        elif isinstance(event, events.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._wrong(f"no value called '{event.anchor}' ends before it is named", event)
            return self._anchors[event.anchor]
        else:
            is_mapping = isinstance(event, events.MappingStartEvent)
            if event.tag not in (None, "!", _TAG + ("map" if is_mapping else "seq")):
                raise self._written_out(event)
            value = self._mapping() if is_mapping else self._sequence()
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise self._wrong(f"a second anchor '{event.anchor}'", event)
            self._anchors[event.anchor] = value
        return value

    def _sequence(self) -> list[Any]:
        end, next_event, made = self._yaml.events.SequenceEndEvent, self._loader.get_event, []
        while not isinstance(event := next_event(), end):
            made.append(self._value(event))
        return made

    def _mapping(self) -> dict[Any, Any]:
        events, next_event = self._yaml.events, self._loader.get_event
        made: dict[Any, Any] = {}
        merged: dict[Any, Any] | None = None
        while not isinstance(event := next_event(), events.MappingEndEvent):
            if isinstance(event, events.ScalarEvent) and event.anchor is None:
                tag = self._tag(event)
                if tag == _MERGE:
                    if merged is not None:
                        raise self._wrong(f"'{event.value}' stands there twice", event)
                    merged = self._merged(next_event())
                    continue
                key = self._scalar(event, _STR if tag == _VALUE else tag)
            else:
                key = self._value(event)
            try:
                stands = key in made
            except TypeError:
                raise self._wrong("found unhashable key", event) from None
            if stands:
                raise self._wrong(f"'{getattr(event, 'value', key)}' stands there twice", event)
            made[key] = self._value(next_event())
        return made if merged is None else merged | made

    def _merged(self, event: Any) -> dict[Any, Any]:
        """What `<<` adds: of several mappings the first that has a key."""
        value = self._value(event)
        mappings = value if isinstance(value, list) else [value]
        made: dict[Any, Any] = {}
        for each in reversed(mappings):
            if not isinstance(each, dict):
                raise self._wrong("expected a mapping or a list of mappings for merging", event)
            made |= each
        return made

    def _tag(self, event: Any) -> str:
        """What a scalar is."""
        if event.tag is None or event.tag == "!":
            if not event.implicit[0] or event.value[:1] not in self._firsts:
                return _STR
            return str(self._loader.resolve(self._yaml.ScalarNode, event.value, event.implicit))
        meant = str(self._loader.resolve(self._yaml.ScalarNode, event.value, (not event.style, True)))
        if event.tag != meant:
            raise self._written_out(event)
        return meant

    def _scalar(self, event: Any, tag: str) -> Any:
        if tag == _STR:
            return event.value
        node = self._yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark, event.style)
        return self._loader.construct_object(node)

    def _written_out(self, event: Any) -> Exception:
        return self._wrong(f"a tag that is written out ({event.tag})", event)

    def _wrong(self, problem: str, event: Any) -> Exception:
        error: Exception = self._yaml.constructor.ConstructorError(None, None, problem, event.start_mark)
        return error
