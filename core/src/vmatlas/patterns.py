"""Regular expressions that are compiled when they are first used. No I/O.

Python compiles one in 0.1 to 0.8 ms, by Python; what every command loads holds some thirty, and needs few of them: a
plain map read by its twin needs none. To a type checker these are `re.Pattern`, and they have its methods.
`re` itself takes a quarter of the start of Python to be imported, so flags stand in the text: `(?m)`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import compile as pattern
else:

    class pattern:  # noqa: N801  (it stands for re.compile)
        """A pattern that is not compiled yet. Raises re.error when it is first used."""

        def __init__(self, text: str | bytes) -> None:
            self._text = text

        def __getattr__(self, name: str) -> object:
            """A method of the compiled pattern, which is found without this from then on."""
            import re

            found = self.__dict__[name] = getattr(re.compile(self._text), name)
            return found


__all__ = ["pattern"]
