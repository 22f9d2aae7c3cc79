"""Brings the bytes of a URL into a file: bounded retries, bounded waits, a bounded total. It verifies nothing:
callers do.
"""

from __future__ import annotations

import errno
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from .errors import FetchError, NotRunnable, NotThere

Progress = Callable[[str, int, int | None], None]
"""Told what is fetched, the bytes so far and the bytes in all (None: not known)."""

_CHUNK = 1 << 18
_ATTEMPTS = 4
_SILENCE = 30.0  # seconds without a byte before an attempt is given up
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_GONE = {404, 410}
_ANEW = {"Cache-Control": "no-cache", "Pragma": "no-cache"}  # for caches of HTTP/1.1 and of 1.0


def quiet(what: str, done: int, total: int | None) -> None:
    """Shows nothing."""


def is_offline() -> bool:
    """Whether `VMATLAS_OFFLINE` asks to use nothing but the cache."""
    return os.environ.get("VMATLAS_OFFLINE", "") not in ("", "0")


def refuse_offline(what: str) -> None:
    """Raises `NotRunnable` when `VMATLAS_OFFLINE` is set: `what` is not in the cache."""
    if is_offline():
        raise NotRunnable(f"{what} is not in the cache, and VMATLAS_OFFLINE is set", hint="run once without it")


def download(
    url: str,
    place: Path,
    *,
    limit: float,
    progress: Progress = quiet,
    most: int | None = None,
    what: str | None = None,
    anew: bool = False,
) -> None:
    """Writes what `url` gives to `place`, within `limit` seconds in all and `most` bytes.

    An attempt that fails is repeated up to three times, after 0.5, 1 and 2 seconds, unless the server says that the
    file is not there (`NotThere`). Raises `FetchError`; `place` may then hold a part. With `anew`, caches on the way
    are told to ask the server itself.
    """
    end = time.monotonic() + limit
    what = what or url.rsplit("/", 1)[-1]
    refuse_offline(url)
    for attempt in range(_ATTEMPTS):
        try:
            _attempt(url, place, end, progress, most, what, _ANEW if anew else {})
            return
        except urllib.error.HTTPError as error:
            if error.code in _GONE:
                raise NotThere(f"{url}: the server says {error.code} {error.reason}") from None
            problem, final = f"the server says {error.code} {error.reason}", error.code not in _RETRIED
        except urllib.error.URLError as error:
            problem, final = f"{error.reason}", False
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
            final = isinstance(error, _TooLong) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        wait = 0.5 * 2**attempt
        if final or attempt + 1 == _ATTEMPTS or time.monotonic() + wait > end:
            tries = f" (after {attempt + 1} attempts)" if attempt else ""
            raise FetchError(f"{url}: {problem}{tries}")
        time.sleep(wait)


class _TooLong(OSError):
    pass


def _attempt(
    url: str, place: Path, end: float, progress: Progress, most: int | None, what: str, headers: dict[str, str]
) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "vmatlas-images"} | headers)
    silence = max(1.0, min(_SILENCE, end - time.monotonic()))
    with urllib.request.urlopen(request, timeout=silence) as answer, place.open("wb") as file:
        length = answer.headers.get("Content-Length")
        total = int(length) if length and length.isdigit() else None
        done = 0
        while chunk := answer.read1(_CHUNK) if hasattr(answer, "read1") else answer.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            progress(what, done, total)
            if most is not None and done > most:
                raise _TooLong(f"longer than the {most} bytes that were announced")
            if time.monotonic() > end:
                raise _TooLong(f"not through within the time limit ({done} bytes came)")
        if total is not None and done != total:
            raise OSError(f"ended after {done} of {total} bytes")
