"""The fast encoder gives what Python's gives, in few writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.cli.render.json import Records, pretty

scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(), inner, max_size=5)
        | st.lists(st.fixed_dictionaries({"a": inner, "},\n{": scalars, "flags": st.just([])}), max_size=4)
    ),
)


@given(values)
def test_it_is_the_text_of_pythons_own_encoder(value):
    assert pretty(value) == json.dumps(value, indent=2)


@given(st.lists(st.tuples(values, scalars, st.integers()), max_size=4))
def test_records_by_their_columns_are_the_list_of_them(told):
    rows = [dict(zip(("a", "100%s", "n"), each, strict=True)) for each in told]
    columns = {key: [row[key] for row in rows] for key in ("a", "100%s", "n")}
    assert pretty({"regions": Records(columns)}) == json.dumps({"regions": rows}, indent=2)


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace is installed here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_json_is_written_in_few_pieces(start, child, tmp_path, unbuffered):
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    from .conftest import PROGRAM

    command = ["strace", "-f", "-e", "trace=write", "-o", str(tmp_path / "t"), *PROGRAM]
    written = subprocess.run([*command, "maps", str(child.pid), "--json"], capture_output=True, env=environment)
    if not written.stdout:
        pytest.skip(f"strace may not trace here: {written.stderr.decode()[:200]}")
    assert json.loads(written.stdout)["regions"]
    calls = (tmp_path / "t").read_text().count("write(1,")
    assert 0 < calls <= 2 + len(written.stdout) / 8192
