"""Whether there are colours: what --color and the environment say."""

from __future__ import annotations

import os

COLOUR_WORDS = {"auto": None, "always": True, "never": False}

_chosen: bool | None = None


def choose_colours(word: str) -> None:
    """What --color says: one of `COLOUR_WORDS`."""
    global _chosen
    _chosen = COLOUR_WORDS[word]


def chosen_colours() -> bool | None:
    """Whether colours are wanted whatever the output is; None: as the output is."""
    if _chosen is None and os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return _chosen


def wants_colours() -> bool:
    """--color and FORCE_COLOR decide; else NO_COLOR (no-color.org) and a terminal without colours are heeded."""
    if (chosen := chosen_colours()) is not None:
        return chosen
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
