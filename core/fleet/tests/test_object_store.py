"""A data set in an object store: a real server of that protocol, on loopback, reached as any would be."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from vmatlas.conformance.patience import PATIENCE

HOW = "./run invoke fleet-object-store installs it, and runs these"
s3fs = pytest.importorskip("s3fs", reason=f"s3fs is not installed: {HOW}")
pytest.importorskip("moto.server", reason=f"moto's server is not installed: {HOW}")


SERVER = """
import sys
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Store:
    """The server, with a bucket."""

    def __init__(self) -> None:
        self.program = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.program.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.program.stdout.readline())}"
        until = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/moto-api/", timeout=PATIENCE).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)

    def files(self) -> Any:
        """A file system of its own: none that was kept from before."""
        return s3fs.S3FileSystem(skip_instance_cache=True)

    def end(self) -> None:
        self.program.kill()
        self.program.wait(PATIENCE)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": "its-secret",
        "AWS_ENDPOINT_URL": made.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    made.files().mkdir("atlas-bucket")
    yield made
    made.end()
    s3fs.S3FileSystem.clear_instance_cache()


DATA = "s3://atlas-bucket/fleet/atlas"


def test_a_data_set_is_recorded_gone_on_with_and_asked_in_an_object_store(store, run, child):
    lines = "one local\ntwo local\n"
    asked = ["fleet", "record", "-", "--to", DATA, "--select", child, "--captures"]
    result = run(*asked, input=lines)
    assert result.exit_code == 0, result.stderr
    found = [name.removeprefix("atlas-bucket/fleet/atlas/") for name in store.files().find(DATA)]
    tables = sorted(name.split("/")[0] for name in found if name.endswith(".parquet"))
    assert tables == ["hosts", "hosts", "processes", "processes", "regions", "regions"]
    assert sum(name.startswith("captures/") for name in found) == len(
        store.files().glob(f"{DATA}/captures/*/*.vmatlas")
    )
    assert "vmatlas-fleet.json" in found
    result = run(*asked, "--resume", input=lines + "three local\n")
    assert result.exit_code == 0 and "1 host answered (2 more had before)" in result.stderr, result.stderr
    query = "select host, count(*) > 10 as many from regions_now group by host order by host"
    result = run("sql", query, "--data", DATA, "--json")
    assert json.loads(result.stdout) == [{"host": name, "many": True} for name in ("one", "three", "two")], (
        result.stderr
    )
    result = run("sql", "--query", "silent-hosts", "--data", DATA, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, []), result.stderr


def test_a_store_that_refuses_or_is_gone_is_told_in_a_line_with_its_code(store, run, child, monkeypatch):
    asked = ["fleet", "record", "-", "--select", child]
    result = run(*asked, "--to", "s3://no-such-bucket/atlas", input="local\n")
    assert result.exit_code == 9, result.output
    assert "bucket does not exist" in result.stderr and len(result.stderr.splitlines()) <= 2
    assert not store.files().exists("no-such-bucket")
    store.end()
    s3fs.S3FileSystem.clear_instance_cache()
    for words in ([*asked, "--to", DATA], ["sql", "select 1", "--data", DATA]):
        result = run(*words, input="local\n")
        assert result.exit_code not in (0, 1), result.output
        assert len(result.stderr.splitlines()) <= 2 and result.exception.__class__ is SystemExit, result.stderr


def test_a_store_that_goes_away_in_the_middle_keeps_what_it_has(store, run, child, tmp_path):
    ends = tmp_path / "ends.py"
    ends.write_text(f"import os, sys; os.kill({store.program.pid}, 9); sys.stdin.read()")
    lines = f"one local\ntwo agent:{sys.executable} {ends}\nthree local\n"
    asked = ["fleet", "record", "-", "--to", DATA, "--select", child, "--concurrency", 1, "--retries", 0]
    result = run(*asked, "--patience", 1, input=lines)
    assert result.exit_code == 9, result.output
    assert "cannot be written" in result.stderr and "--resume" in result.stderr
