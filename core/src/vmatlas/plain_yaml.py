"""Texts that users write in YAML: plain values alone, at a cost that grows with the text and no faster.

Of YAML 1.1 is left out what nobody means and what costs: tags that are written out (`!!timestamp x`), numbers of base
60 (12:30 is a text) and of more digits than anything here has, keys that stand twice (the library takes the last
without a word). Dates are dates. PyYAML does the rest.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from vmatlas.errors import UsageError, legible

_WHOLE = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F_]{1,20}|0[0-7_]{1,24}|0b[01_]{1,70}|(?:0|[1-9][0-9_]{0,19}))$")
_FRACTION = re.compile(
    r"(?:[-+]?(?:[0-9][0-9_]{0,99}\.[0-9_]{0,100}|\.[0-9][0-9_]{0,99})(?:[eE][-+][0-9]{1,5})?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


def read_yaml(text: str | bytes, where: str) -> Any:
    """The values of a text; None of an empty one. `where`: what it is called in errors.

    Raises UsageError, with the line.
    """
    import yaml

    try:
        return yaml.load(text, _loader())
    except RecursionError:
        raise UsageError(f"{where} is nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{where}, line {mark.line + 1}" if mark is not None else where
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0] or "it is no text"
        raise UsageError(f"{at}: no YAML: {legible(problem, 200)}") from None


def _loader() -> Any:
    """A class of its own for each: the library keeps its rules in classes."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """See the head of this file."""

        yaml_implicit_resolvers: ClassVar = {
            first: [(tag, {_INT: _WHOLE, _FLOAT: _FRACTION}.get(tag, pattern)) for tag, pattern in rules]
            for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            if node.tag != self._meant(node):
                problem = f"a tag that is written out ({node.tag})"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            return super().construct_object(node, deep)

        def _meant(self, node: Any) -> str:
            if isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:merge":
                return str(self.resolve(yaml.ScalarNode, node.value, (not node.style, True)))
            return str(
                self.resolve(type(node), None, (True, False)) if not isinstance(node, yaml.ScalarNode) else node.tag
            )

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        problem = f"'{key.value}' stands there twice"
                        raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader
