"""The code of docs/plots.md: run as it stands there, piece by piece, on a series of a process that grows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE

pytest.importorskip("pandas", reason="the examples are for pandas: pip install pandas")
pytest.importorskip("altair", reason="the examples are for Altair: pip install altair")

PAGE = Path(__file__).parents[1] / "docs" / "plots.md"
CODE = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)

_GROWS = """
import mmap, sys
kept = []
for _ in sys.stdin:
    kept.append(mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    kept[-1].write(b"x" * (4 << 20))
    print(flush=True)
"""
MOMENTS = 6


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`leak.vmatlas` where the examples run: of a process that gains 4 MiB from each moment to the next."""
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen([sys.executable, "-c", _GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        try:

            def grow(_: float) -> None:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(b"\n")
                process.stdin.flush()
                process.stdout.readline()

            grow(0)
            recorded = vmatlas.record_series(process.pid, "leak.vmatlas", every=0.001, seconds=PATIENCE, wait=grow)
            for moment in recorded:
                if moment.number == MOMENTS:
                    break
            recorded.close()
        finally:
            process.kill()


@pytest.mark.usefixtures("series")
def test_each_piece_of_code_of_the_page_runs_and_shows_what_grows(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for number, code in enumerate(CODE):
        exec(compile(code, f"{PAGE.name}, piece {number + 1}", "exec"), names)

    gained = names["gained"]
    assert gained.index[0] == "anonymous"
    assert 4 << 20 <= gained["anonymous"] <= (MOMENTS + 2) * (4 << 20)
    areas = json.loads(names["areas"].to_json())
    assert areas["mark"]["type"] == "area"
    [values] = areas["datasets"].values()
    assert len({value["seconds"] for value in values}) >= MOMENTS - 1
    assert {"anonymous", "file", "stack"} <= {value["kind"] for value in values}
    grown = names["grown"]
    assert (grown["least"] <= grown["MiB an hour"]).all() and (grown["MiB an hour"] <= grown["most"]).all()
    assert grown["MiB an hour"].max() > 0
    assert names["both"]["gained"].max() >= 4 << 20
    assert all(Path(name).stat().st_size for name in ("areas.html", "growth.html"))
    assert "anonymous" in capsys.readouterr().out
