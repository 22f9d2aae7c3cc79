"""Captures: saved and loaded they are the same; whatever else a file holds is refused in one line."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import registry
from vmatlas.backend import Feature
from vmatlas.capture import FORMAT, Capture
from vmatlas.errors import MalformedData, Unsupported, UsageError, VmatlasError
from vmatlas.model import Consistency, Query

from .fakes import FakeBackend, FakeTarget
from .strategies import LINUX, captures, maps_text, region_lists

on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

SAVED = Capture(
    streams={"maps": b"00001000-00002000 r-xp 00000000 08:01 7 /lib/a.so\n", "stat": b"7 (a) S 1"},
    system=LINUX,
    pid=7,
    backend="linux-procfs",
    distribution="vmatlas-linux-procfs",
    query=Query(),
    time=1_750_000_000.5,
    start_time=99,
    consistency=Consistency.PER_CHUNK,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    SAVED.save(tmp_path / "saved.zip")
    return tmp_path / "saved.zip"


def manifest_of(file: Path) -> dict:
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("manifest.json"))


def write(file: Path, manifest: object, streams: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", manifest if isinstance(manifest, bytes) else json.dumps(manifest))
        for name, content in (SAVED.streams if streams is None else streams).items():
            archive.writestr(f"streams/{name}", content)
    return file


@on_disk
@given(captures)
def test_a_capture_saved_and_loaded_is_equal(tmp_path, capture):
    capture.save(tmp_path / "one.zip")
    again = Capture.load(tmp_path / "one.zip")
    assert str(again.query.where) == str(capture.query.where)
    query = dataclasses.replace(again.query, where=capture.query.where)
    assert dataclasses.replace(again, query=query) == capture


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (Query(), 0),
        (Query(residency=True), 0),
        (Query(address=4096), 1),
        (Query(address=4096, or_next=True, limit=16), 16),
    ],
)
def test_the_manifest_tells_how_many_regions_were_asked_for(file, query, told):
    dataclasses.replace(SAVED, query=query).save(file)
    assert manifest_of(file)["query"]["limit"] == told
    assert Capture.load(file).query == query


def test_a_capture_of_before_which_told_a_limit_of_1_for_a_whole_map_reads_the_same(file):
    manifest = manifest_of(file)
    manifest["query"]["limit"] = 1
    assert Capture.load(write(file, manifest)) == SAVED


@on_disk
@given(region_lists())
def test_a_space_survives_the_way_through_a_captures_file(tmp_path, install, found):
    install("vmatlas-fake", registry.BACKENDS, "fake", FakeBackend(found, features=Feature.NONE))
    with vmatlas.open(42, target=FakeTarget(), backend="fake") as process:
        space, capture = process.snapshot(), process.capture()
    capture.save(tmp_path / "two.zip")
    again = vmatlas.replay(tmp_path / "two.zip")
    assert list(again) == list(space) == found
    assert again.origin == space.origin


@on_disk
@given(region_lists(plain=True).filter(bool))
def test_a_maps_text_means_the_same_after_the_way_through_a_file(tmp_path, found):
    found = [region._replace(shared=bool(region.shared)) for region in found]
    capture = dataclasses.replace(SAVED, streams={"maps": maps_text(found)})
    space = vmatlas.replay(capture)
    capture.save(tmp_path / "three.zip")
    assert vmatlas.replay(tmp_path / "three.zip") == space
    assert [region[:4] for region in space] == [region[:4] for region in found]


@pytest.mark.parametrize("backend", ["linux-procfs", "linux-ioctl"])
def test_the_real_backends_captures_of_this_process_replay_as_they_were_read(tmp_path, backend):
    try:
        capture = vmatlas.capture(backend=backend)
    except Unsupported as error:
        pytest.skip(str(error))
    capture.save(tmp_path / "self.zip")
    again = Capture.load(tmp_path / "self.zip")
    assert again.streams == capture.streams
    assert vmatlas.replay(again) == vmatlas.replay(capture)
    assert len(vmatlas.replay(again)) > 10


def test_saving_leaves_one_file_and_replaces_the_old_one_whole(file):
    SAVED.save(file)
    assert [path.name for path in file.parent.iterdir()] == ["saved.zip"]


def test_saving_through_a_link_replaces_what_it_leads_to(tmp_path):
    (tmp_path / "link").symlink_to("real")
    SAVED.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert Capture.load(tmp_path / "real") == Capture.load(tmp_path / "link")


def test_a_filter_costs_no_more_than_one_that_somebody_wrote():
    manifest = SAVED.manifest()
    manifest["query"]["where"] = "a," * 4096
    with pytest.raises(MalformedData, match="a filter of 8,192 characters; at most 4,096 are read"):
        Capture.of_manifest(manifest, dict(SAVED.streams))
    long = dataclasses.replace(SAVED, query=vmatlas.Query(where=vmatlas.Filter.parse(f"text={'a' * 5000}")))
    with pytest.raises(vmatlas.UsageError, match="asked with a filter"):
        long.manifest()


def test_what_is_replaced_keeps_its_mode(tmp_path):
    path = tmp_path / "x.vmatlas"
    path.touch(0o600)
    SAVED.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    SAVED.save(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_saving_over_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null, which root could replace by a file
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(FileExistsError, match="no regular file"):
            SAVED.save(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_a_failed_saving_leaves_the_old_file_and_nothing_else(file):
    before = file.read_bytes()
    bad = dataclasses.replace(SAVED, streams={"maps": object()})
    with pytest.raises(TypeError):
        bad.save(file)
    assert [(path.name, path.read_bytes()) for path in file.parent.iterdir()] == [("saved.zip", before)]


def test_a_file_that_cannot_be_written_is_told_by_the_name_that_was_given(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as caught:
        SAVED.save(tmp_path / "no folder" / "saved.zip")
    assert caught.value.filename == str(tmp_path / "no folder" / "saved.zip")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        SAVED.save("saved.zip")
    assert caught.value.filename == "saved.zip"


def test_a_pipe_and_a_device_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="a pipe or a device") as caught:
            Capture.load(endless)
        assert caught.value.filename == os.fspath(endless)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Capture.load(tmp_path / "none.zip")


def load(path: Path) -> None:
    """Loads and decodes what may not be a capture; errors of other kinds than ours are left to fail the test."""
    try:
        vmatlas.replay(path)
    except VmatlasError as error:
        assert "\n" not in str(error)


def test_a_truncated_file_is_malformed_wherever_it_is_cut(file, tmp_path):
    whole = file.read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.zip").write_bytes(whole[:size])
        with pytest.raises(MalformedData):
            Capture.load(tmp_path / "cut.zip")


def test_a_mutated_file_is_read_or_refused_and_nothing_else(file, tmp_path):
    whole = file.read_bytes()
    chance = random.Random(1)
    for _ in range(3000):
        mutated = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 8])):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        (tmp_path / "mutated.zip").write_bytes(mutated)
        load(tmp_path / "mutated.zip")


@on_disk
@given(st.binary(max_size=200))
def test_a_foreign_file_is_malformed(tmp_path, content):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(MalformedData):
        Capture.load(tmp_path / "foreign")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_broken_member_of_another_compression_is_malformed(file, tmp_path, method):
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", method) as archive:
        archive.writestr("manifest.json", json.dumps(manifest_of(file)))
    whole = bytearray(kept.getvalue())
    whole[60:80] = bytes(20)
    (tmp_path / "broken.zip").write_bytes(whole)
    with pytest.raises(MalformedData):
        Capture.load(tmp_path / "broken.zip")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(file, monkeypatch):
    monkeypatch.setattr(sys.modules["vmatlas.capture"], "LARGEST", 1 << 20)
    manifest = manifest_of(file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("streams/maps", bytes(2 << 20))
    assert file.stat().st_size < 10_000
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(MalformedData, match="unpacks to at most"):
        Capture.load(file)


def test_a_bomb_that_lies_about_its_size_is_malformed(file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(1 << 20))
    whole = file.read_bytes()
    lie = whole.replace((1 << 20).to_bytes(4, "little"), (5).to_bytes(4, "little"))
    assert lie != whole
    file.write_bytes(lie)
    with pytest.raises(MalformedData):
        Capture.load(file)


def test_two_members_of_one_name_are_malformed(file):
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("streams/maps", b"other")
    with pytest.raises(MalformedData, match="different names"):
        Capture.load(file)


def test_a_newer_format_is_refused_by_name(file):
    write(file, {"format": FORMAT + 1, "something": "else"})
    with pytest.raises(UsageError, match=rf"format {FORMAT + 1}.* reads up to {FORMAT}") as caught:
        Capture.load(file)
    assert "a newer one" in caught.value.hint


@pytest.mark.parametrize("manifest", [b"", b"[]", b"\xff", b"[" * 100_000, b"null", b'{"format": true}', b"{}"])
def test_a_manifest_that_is_none_is_malformed(file, manifest):
    write(file, manifest)
    with pytest.raises(MalformedData):
        Capture.load(file)


@pytest.mark.parametrize("value", [10**30, 0, -64, 63, 2**40])
@pytest.mark.parametrize("path", ["system pointer_width", "system page_size", "pointer_width"])
def test_a_width_or_page_that_no_machine_has_is_malformed(file, path, value):
    """Decoders shift by it: 10^11 took 12 GiB."""
    SAVED.save(file)
    manifest = manifest_of(file)
    *outer, name = path.split()
    (manifest[outer[0]] if outer else manifest)[name] = value
    write(file, json.dumps(manifest).encode())
    with pytest.raises(MalformedData, match=name):
        Capture.load(file)


PATHS = [
    (key,) if not inner else (key, inner)
    for key, inners in {
        "system": ["system", "release", "version", "machine", "byte_order", "pointer_width", "page_size"],
        "query": ["address", "or_next", "limit", "residency", "build_ids", "where"],
        "format": [],
        "pid": [],
        "start_time": [],
        "thread": [],
        "pointer_width": [],
        "target": [],
        "backend": [],
        "distribution": [],
        "time": [],
        "consistency": [],
        "incomplete": [],
        "streams": [],
    }.items()
    for inner in ["", *(inners or [])]
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@on_disk
@given(st.sampled_from(PATHS), st.booleans(), json_values)
def test_any_value_in_any_field_of_the_manifest_is_read_or_refused(tmp_path, path, taken_away, value):
    file = tmp_path / "field.zip"
    SAVED.save(file)
    manifest = manifest_of(file)
    holder = manifest if len(path) == 1 else manifest[path[0]]
    if taken_away:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    load(write(file, manifest))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backend", "x\x1b[2J"),
        ("distribution", "vmatlas; rm -rf"),
        ("distribution", ""),
        ("time", "2026-01-01T00:00:00"),
        ("time", "yesterday"),
        ("consistency", "none"),
        ("pid", True),
        ("streams", {"maps": 1}),
    ],
)
def test_a_wrong_field_of_the_manifest_is_malformed(file, field, value):
    write(file, manifest_of(file) | {field: value})
    with pytest.raises(MalformedData, match=r"manifest\.json"):
        Capture.load(file)


def test_a_capture_of_a_backend_that_is_not_installed_names_what_to_install(file, monkeypatch):
    monkeypatch.setattr("importlib.metadata.requires", lambda _: ['vmatlas-qnx; extra == "qnx"', "rich"])
    write(file, manifest_of(file) | {"backend": "qnx-newer", "distribution": "vmatlas-qnx"})
    with pytest.raises(Unsupported, match="'qnx-newer', which is not installed") as caught:
        vmatlas.replay(file)
    assert caught.value.hint.endswith("FOLDER vmatlas-qnx   in a checkout: pip install ./platforms/qnx")


@pytest.mark.parametrize("claimed", ["evil-package", "vmatlas-plan9", "rich", "VMATLAS-QNX2"])
def test_a_capture_cannot_have_its_reader_install_what_it_likes(file, claimed):
    write(file, manifest_of(file) | {"backend": "plan9-segment", "distribution": claimed})
    with pytest.raises(Unsupported) as caught:
        vmatlas.replay(file)
    assert caught.value.hint.startswith(f"the file claims that the distribution '{claimed}' holds it")
    assert "pip" not in caught.value.hint


def test_a_capture_without_the_stream_that_its_backend_reads_says_which(file):
    write(file, manifest_of(file) | {"streams": {"other": 1}}, {"other": b"x"})
    with pytest.raises(MalformedData, match=r"'maps'.*there are: other") as caught:
        vmatlas.replay(file)
    assert (caught.value.pid, caught.value.backend) == (7, "linux-procfs")
