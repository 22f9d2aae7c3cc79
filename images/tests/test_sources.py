"""Sources end to end, from an archive on loopback that the tests sign, and from plain URLs and files.

Each test of the archive runs twice: with apt as the carrier, and over HTTP as on a host that has no apt.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import time
import zlib
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, FetchError, Machine, NotRunnable, VerificationError, fetch
from vmatlas_images.fetch import archive
from vmatlas_images.fetch import download as downloading
from vmatlas_images.fetch.archive import verified_release
from vmatlas_images.fetch.catalogue import Publishers
from vmatlas_images.fetch.sources import is_cached
from vmatlas_images.prepare.preparing import prepare
from vmatlas_images.resolve.checksums import read_checksums
from vmatlas_images.resolve.lock import LockedKernel, read_lock, write_lock

from .conftest import Mirror, Server, Signer, describe

KERNEL = """\
name: {name}
about: a test
system: linux
processor: x86_64
source:
  kind: debian-kernel
  suites: [trixie]
  package: linux-image-*-cloud-amd64
{more}
boot: {{start: kernel}}
agent: {{delivery: init}}
"""
OTHER = """\
name: other
about: a test
system: other
processor: x86_64
source:
{source}
boot: {{start: disk}}
agent: {{delivery: cd}}
dialogue: [{{type: x}}]
"""


@pytest.fixture(params=["apt", "http"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """apt, or a host without it."""
    which = shutil.which
    if request.param == "apt" and which("apt-get") is None:
        pytest.skip("this host has no apt-get")
    if request.param == "http":
        monkeypatch.setattr(shutil, "which", lambda name: None if name == "apt-get" else which(name))
    return str(request.param)


def kernel(folder: Path, more: str = "", name: str = "k") -> Machine:
    return describe(folder, name, KERNEL.format(name=name, more=more))


def kept(cache: Cache) -> list[Path]:
    return list((cache.root / "files").glob("*")) + list((cache.root / "records").glob("*"))


@pytest.mark.usefixtures("carrier")
@pytest.mark.parametrize(
    ("more", "says", "content"),
    [
        ('  below: "7"', "linux-image-6.12.10-cloud-amd64 6.12.10-1 (trixie)", b"kernel 6.12.10"),
        ("  choose: oldest", "linux-image-6.12.9-cloud-amd64 6.12.9-1 (trixie)", b"kernel 6.12.9"),
        ("", "linux-image-7.2.1-cloud-amd64 7.2.1-1 (trixie)", b"kernel 7.2.1"),
    ],
)
def test_a_kernel_is_resolved_verified_and_unpacked(
    mirror: Mirror, cache: Cache, tmp_path: Path, more: str, says: str, content: bytes
) -> None:
    machine = kernel(tmp_path, more)
    assert not is_cached(machine, cache)
    fetched = fetch(machine, cache)
    assert fetched.says == says
    assert is_cached(machine, cache)
    agent = tmp_path / "agent"
    agent.write_bytes(b"agent")
    prepared = prepare(machine, fetched, agent, cache)
    assert prepared.kernel is not None
    assert prepared.kernel.read_bytes() == content


@pytest.mark.usefixtures("carrier")
def test_modules_come_from_their_own_package(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    fetched = fetch(kernel(tmp_path, "  modules: [x]"), cache)
    assert len(fetched.files) == 2


@pytest.mark.usefixtures("carrier")
def test_a_second_fetch_asks_nobody(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    first = fetch(kernel(tmp_path), cache)
    mirror.server.asked.clear()
    assert fetch(kernel(tmp_path), cache) == first
    assert mirror.server.asked == []


@pytest.mark.usefixtures("carrier")
def test_a_key_that_is_not_the_archives_is_refused(
    mirror: Mirror, stranger: Signer, cache: Cache, tmp_path: Path
) -> None:
    mirror.publish(signer=stranger)
    with pytest.raises(VerificationError, match=r"signature|NO_PUBKEY|not signed"):
        fetch(kernel(tmp_path), cache)
    assert kept(cache) == []


@pytest.mark.usefixtures("carrier")
def test_a_release_changed_after_signing_is_refused(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    files = mirror.server.files
    files["debian/dists/trixie/InRelease"] = files["debian/dists/trixie/InRelease"].replace(b"amd64", b"amd46", 1)
    with pytest.raises(VerificationError, match=r"BAD|signature|BADSIG"):
        fetch(kernel(tmp_path), cache)
    assert kept(cache) == []


@pytest.mark.usefixtures("carrier")
def test_a_well_signed_release_of_another_suite_is_refused(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    mirror.publish(named="bookworm")
    with pytest.raises(FetchError, match=r"another suite|Conflicting distribution"):
        fetch(kernel(tmp_path), cache)
    assert kept(cache) == []


@pytest.mark.usefixtures("carrier")
def test_text_outside_the_signature_is_not_believed(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    """InRelease may have text before the signed part: gpgv accepts such a file, so only what it puts out counts."""
    files = mirror.server.files
    signed = files["debian/dists/trixie/InRelease"]
    forged = b"Origin: Debian\nSuite: trixie\nSHA256:\n " + b"0" * 64 + b" 1 main/binary-amd64/Packages\n\n"
    files["debian/dists/trixie/InRelease"] = forged + signed
    try:
        fetched = fetch(kernel(tmp_path), cache)
    except FetchError:
        assert kept(cache) == []
    else:
        assert fetched.release == "7.2.1-1"


@pytest.mark.usefixtures("carrier")
def test_an_index_changed_after_signing_is_refused(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    plain = mirror.packages.replace("Package: unrelated", "Package: altered--").encode()
    base = "debian/dists/trixie/main/binary-amd64/Packages"
    mirror.server.files |= {base: plain, f"{base}.xz": lzma.compress(plain)}
    with pytest.raises(FetchError):
        fetch(kernel(tmp_path), cache)
    assert kept(cache) == []


@pytest.mark.usefixtures("carrier")
def test_a_package_with_another_byte_is_refused(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    path = "debian/pool/main/l/linux/linux-image-6.12.10-cloud-amd64_6.12.10-1_amd64.deb"
    content = bytearray(mirror.server.files[path])
    content[-1] ^= 1
    mirror.server.files[path] = bytes(content)
    with pytest.raises(VerificationError, match=r"sha256 is|Hash Sum mismatch"):
        fetch(kernel(tmp_path, '  below: "7"'), cache)
    assert kept(cache) == []


@pytest.mark.usefixtures("carrier")
def test_a_package_that_is_cut_short_is_refused(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    path = "debian/pool/main/l/linux/linux-image-6.12.10-cloud-amd64_6.12.10-1_amd64.deb"
    mirror.server.truncated[path] = 100
    with pytest.raises(FetchError):
        fetch(kernel(tmp_path, '  below: "7"'), cache)
    assert kept(cache) == []


IMAGE = "debian/pool/main/l/linux/linux-image-{0}-cloud-amd64_{0}-1_amd64.deb"


@pytest.mark.usefixtures("carrier")
def test_a_package_that_left_the_mirror_since_its_index_was_read_is_found_in_the_index_of_now(
    mirror: Mirror, cache: Cache, tmp_path: Path
) -> None:
    mirror.server.stale = {path: content for path, content in mirror.server.files.items() if "/dists/" in path}
    mirror.packages = ""
    mirror.add("linux-image-6.12.11-cloud-amd64", "6.12.11-1", {"boot/vmlinuz-6.12.11": b"kernel 6.12.11"})
    mirror.publish()
    del mirror.server.files[IMAGE.format("6.12.10")]
    fetched = fetch(kernel(tmp_path, '  below: "7"'), cache)
    assert (fetched.release, fetched.notes) == ("6.12.11-1", ())


@pytest.mark.usefixtures("carrier")
def test_a_package_that_is_listed_and_not_there_is_passed_over_for_the_next_in_range(
    mirror: Mirror, cache: Cache, tmp_path: Path
) -> None:
    mirror.server.asked.clear()
    del mirror.server.files[IMAGE.format("6.12.10")]
    fetched = fetch(kernel(tmp_path, '  below: "7"'), cache)
    assert fetched.release == "6.12.9-1"
    assert fetched.notes == (
        "the mirror lists linux-image-6.12.10-cloud-amd64 6.12.10-1 (trixie) and does not have it: "
        "the next in range was taken",
    )
    assert mirror.server.asked.count("debian/dists/trixie/InRelease") >= 2, "the index was read again first"
    mirror.server.asked.clear()
    assert fetch(kernel(tmp_path, '  below: "7"'), cache).release == "6.12.9-1"
    assert mirror.server.asked == []


@pytest.mark.usefixtures("carrier")
def test_a_kernel_whose_modules_are_not_there_is_passed_over_whole(
    mirror: Mirror, cache: Cache, tmp_path: Path
) -> None:
    [modules] = [path for path in mirror.server.files if "/linux-modules-7.2.1" in path]
    del mirror.server.files[modules]
    assert fetch(kernel(tmp_path, "  modules: [x]"), cache).release == "6.12.10-1"


@pytest.mark.usefixtures("carrier")
def test_a_mirror_that_has_nothing_of_what_it_lists_says_so_and_is_not_asked_for_ever(
    mirror: Mirror, cache: Cache, tmp_path: Path
) -> None:
    for version in ("6.12.9", "6.12.10"):
        del mirror.server.files[IMAGE.format(version)]
    with pytest.raises(FetchError, match="404"):
        fetch(kernel(tmp_path, '  below: "7"'), cache)
    assert kept(cache) == []


@pytest.mark.usefixtures("carrier")
def test_no_fitting_version_says_what_was_looked_for(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"linux-image-\*-cloud-amd64 with version >= 8 in trixie \(amd64\)") as caught:
        fetch(kernel(tmp_path, '  at_least: "8"'), cache)
    assert caught.value.target == "k"


@pytest.mark.usefixtures("carrier")
def test_offline_uses_what_is_here_and_says_what_is_not(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch(kernel(tmp_path), cache)
    monkeypatch.setenv("VMATLAS_OFFLINE", "1")
    os.utime(next((cache.root / "records").iterdir()), (0, 0))
    mirror.server.asked.clear()
    assert fetch(kernel(tmp_path), cache) == first
    with pytest.raises(NotRunnable, match="not in the cache, and VMATLAS_OFFLINE is set"):
        fetch(kernel(tmp_path, "  choose: oldest"), cache)
    assert mirror.server.asked == []


@pytest.mark.usefixtures("carrier")
def test_a_mirror_that_is_away_leaves_yesterdays_kernel_with_a_note(
    mirror: Mirror, cache: Cache, tmp_path: Path
) -> None:
    first = fetch(kernel(tmp_path), cache)
    yesterday = time.time() - 30 * 3600
    os.utime(next((cache.root / "records").iterdir()), (yesterday, yesterday))
    mirror.server.files.clear()
    again = fetch(kernel(tmp_path), cache)
    assert again.files == first.files
    assert "resolved 30 h ago, and not anew" in again.notes[0]


def test_a_new_kernel_is_noticed_after_a_day(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    fetch(kernel(tmp_path), cache)
    mirror.add("linux-image-7.2.2-cloud-amd64", "7.2.2-1", {"boot/vmlinuz-7.2.2": b"kernel 7.2.2"})
    mirror.publish()
    assert fetch(kernel(tmp_path), cache).release == "7.2.1-1"
    assert fetch(kernel(tmp_path), cache, refresh=True).release == "7.2.2-1"


def test_no_keyring_and_no_gpgv_are_each_one_line_with_the_command(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("apt-get", "gpgv") else which(name))
    with pytest.raises(NotRunnable, match="gpgv is missing") as caught:
        fetch(kernel(tmp_path), cache)
    assert caught.value.hint == "apt-get install gpgv"
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "apt-get" else which(name))
    monkeypatch.setenv("VMATLAS_DEBIAN_KEYRING", "/no/such/keyring")
    with pytest.raises(NotRunnable, match="no keyring of Debian's archive at /no/such/keyring"):
        fetch(kernel(tmp_path), cache)


def test_a_host_without_a_mirror_is_told_the_variable(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    archive._apt_mirrors.cache_clear()
    with pytest.raises(NotRunnable, match="no Debian mirror is known") as caught:
        archive.configured_mirrors()
    assert "VMATLAS_DEBIAN_MIRROR=URL" in (caught.value.hint or "")
    archive._apt_mirrors.cache_clear()


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("x.sources", "Types: deb deb-src\nURIs: http://one.invalid/debian\nSuites: bookworm\nComponents: main\n",
         "http://one.invalid/debian"),
        ("x.list", "deb [arch=amd64 signed-by=/k.gpg] https://two.invalid/debian/ trixie main\n",
         "https://two.invalid/debian"),
        ("x.list", "deb https://p.invalid/s/debian x-security main\ndeb http://q.invalid/debian sid main\n",
         "http://q.invalid/debian"),
        ("x.sources", "Types: deb\nURIs: https://node.invalid/x\nSuites: n\nComponents: main\n", None),
    ],
)  # fmt: skip
def test_the_mirror_is_the_one_in_the_hosts_apt_sources(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, found: str | None
) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("this host has no apt-get")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / file).write_text(text)
    # Read before apt.conf.d, which on no host sets these three.
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{tmp_path}/sources";\n'
        f'Dir::State::lists "{tmp_path}/lists";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    if found is None:
        with pytest.raises(NotRunnable):
            archive.configured_mirrors()
    else:
        assert archive.configured_mirrors() == (found,)


def url_machine(folder: Path, source: str) -> Machine:
    return describe(folder, "other", OTHER.format(source=source))


def test_a_url_with_its_digest(server: Server, cache: Cache, tmp_path: Path) -> None:
    server.files["disk.raw.xz"] = lzma.compress(b"disk" * 1000)
    digest = hashlib.sha256(server.files["disk.raw.xz"]).hexdigest()
    machine = url_machine(tmp_path, f"  kind: url\n  url: {server.url}/disk.raw.xz\n  sha256: {digest}")
    fetched = fetch(machine, cache)
    (tmp_path / "agent").write_bytes(b"agent")
    prepared = prepare(machine, fetched, tmp_path / "agent", cache)
    assert prepared.disk is not None
    assert prepared.disk.read_bytes() == b"disk" * 1000
    assert prepared.cd is not None
    assert fetch(machine, cache) == fetched
    assert server.asked == ["disk.raw.xz"]


@pytest.mark.parametrize("style", ["SHA512 (disk.raw) = {}\n", "{}  disk.raw\n", "{} *./disk.raw\n"])
def test_a_url_with_its_publishers_checksum_file(server: Server, cache: Cache, tmp_path: Path, style: str) -> None:
    server.files["disk.raw"] = b"the disk"
    server.files["CHECKSUM"] = style.format(hashlib.sha512(b"the disk").hexdigest()).encode()
    source = f"  kind: url\n  url: {server.url}/disk.raw\n  checksum_file: {server.url}/CHECKSUM"
    fetched = fetch(url_machine(tmp_path, source), cache)
    assert fetched.files[0].read_bytes() == b"the disk"
    server.files["disk.raw"] = b"changed!"
    with pytest.raises(VerificationError, match=r"disk.raw: sha512 is .* should be"):
        fetch(url_machine(tmp_path, source), Cache(tmp_path / "another"))
    assert kept(Cache(tmp_path / "another"))[0].name.startswith("checksum-")


def test_checksum_files_that_do_not_help_are_refused() -> None:
    with pytest.raises(VerificationError, match="lists no SHA256 or SHA512 of disk"):
        read_checksums(f"MD5 (disk) = {'a' * 32}\nSHA256 (other) = {'a' * 64}\n", "disk", "C")
    with pytest.raises(VerificationError, match="two different digests"):
        read_checksums(f"SHA256 (disk) = {'a' * 64}\nSHA256 (disk) = {'b' * 64}\n", "disk", "C")
    both = f"SHA256 (disk) = {'a' * 64}\nSHA512 (disk) = {'b' * 128}\n"
    assert read_checksums(both, "disk", "C") == ("sha512", "b" * 128)
    assert read_checksums(f"{'a' * 64} *x/disk \r\n{'b' * 64}  disk2\n", "disk", "C") == ("sha256", "a" * 64)


@pytest.mark.parametrize(
    "line", ["a" * 64 + " " * 4_000_000 + "x", "SHA256 (" + ") = " * 1_000_000, " " * 4_000_000, "\v" * 4_000_000]
)
def test_checksums_of_any_length_cost_no_more_than_they_are_long(line: str) -> None:
    before = time.process_time()
    with pytest.raises(VerificationError, match="lists no"):
        read_checksums(line, "disk", "C")
    assert time.process_time() - before < 4.0, "it took days"


@pytest.mark.usefixtures("carrier")
def test_what_an_inrelease_unpacks_to_is_bounded(mirror: Mirror, cache: Cache, tmp_path: Path) -> None:
    """gpgv unpacks packets that are packed again and again before it says that there is no signature."""

    def packed(content: bytes) -> bytes:
        pack = zlib.compressobj(9, zlib.DEFLATED, -15)
        return b"\xa3\x01" + pack.compress(content) + pack.flush()  # RFC 4880: tag 8, of no stated length

    bomb = packed(packed(b"\xafb" + bytes(5 + (1 << 24))))
    assert len(bomb) < 5000
    release = tmp_path / "InRelease"
    release.write_bytes(bomb)
    with pytest.raises((VerificationError, NotRunnable)):
        verified_release(release, "trixie", "M")
    written = tmp_path / "InRelease.signed"
    assert not written.exists() or written.stat().st_size < 1 << 17


def test_a_users_image_that_is_not_named_says_how_to_get_one(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_IMAGE", raising=False)
    machine = url_machine(tmp_path, "  kind: file\n  path: $TEST_IMAGE\n  obtain: ask its vendor")
    with pytest.raises(NotRunnable, match="TEST_IMAGE is not set") as caught:
        fetch(machine, cache)
    assert (caught.value.hint, caught.value.target) == ("ask its vendor", "other")
    monkeypatch.setenv("TEST_IMAGE", "")
    with pytest.raises(NotRunnable, match="TEST_IMAGE is not set"):
        fetch(machine, cache)
    monkeypatch.setenv("TEST_IMAGE", "$disk.img")
    with pytest.raises(NotRunnable, match=r"no image at .*/\$disk\.img"):
        fetch(machine, cache)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TEST_IMAGE", "disk.img")
    with pytest.raises(NotRunnable, match=f"no image at {elsewhere}/disk.img"):
        fetch(machine, cache)
    (elsewhere / "disk.img").write_bytes(b"d")
    assert fetch(machine, cache).files == (elsewhere / "disk.img",)
    assert is_cached(machine, cache)


def test_a_users_image_that_has_changed_is_refused(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"d")
    source = f"  kind: file\n  path: disk.img\n  obtain: x\n  sha256: {'f' * 64}"
    with pytest.raises(VerificationError, match=r"disk.img: sha256 is"):
        fetch(url_machine(tmp_path, source), cache)


@pytest.mark.network
@pytest.mark.timeout(4 * PATIENCE)
def test_a_real_kernel_comes_from_this_hosts_mirror_or_the_cache() -> None:
    from vmatlas_images import find

    fetched = fetch(find("linux-6.1"))
    assert fetched.says.startswith("linux-image-6.1.")
    assert hashlib.sha256(fetched.files[0].read_bytes()).hexdigest() == fetched.digests[0]


@pytest.mark.usefixtures("carrier")
def test_a_locked_kernel_is_taken_though_there_is_a_newer_one(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fetch(kernel(tmp_path, "  choose: oldest"), cache)
    assert old.release is not None
    locked = LockedKernel(package=old.says, release=old.release, sha256=old.digests)
    write_lock(tmp_path / "kernels.lock", {"k": locked})
    assert read_lock(tmp_path / "kernels.lock") == {"k": locked}
    monkeypatch.setenv("VMATLAS_LOCKED", "1")
    mirror.server.asked.clear()
    assert fetch(kernel(tmp_path), cache) == old
    assert mirror.server.asked == [], "it is in the cache"
    cache.clean()
    assert fetch(kernel(tmp_path), cache) == old
    with pytest.raises(NotRunnable, match="has no kernel of this machine"):
        fetch(kernel(tmp_path, name="other"), cache)


@pytest.mark.usefixtures("carrier")
def test_a_locked_kernel_that_the_mirror_has_no_more_or_otherwise_is_not_run(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMATLAS_LOCKED", "1")
    gone = LockedKernel(
        package="linux-image-6.12.1-cloud-amd64 6.12.1-1 (trixie)", release="6.12.1-1", sha256=("0" * 64,)
    )
    write_lock(tmp_path / "kernels.lock", {"k": gone})
    with pytest.raises(NotRunnable, match=r"kernels.lock wants linux-image-6.12.1.* does not list it") as caught:
        fetch(kernel(tmp_path), cache)
    assert caught.value.hint == "./run invoke lock-kernels writes it anew, from what the mirror has today"
    other = gone.model_copy(update={"package": "linux-image-6.12.9-cloud-amd64 6.12.9-1 (trixie)"})
    write_lock(tmp_path / "kernels.lock", {"k": other})
    with pytest.raises(VerificationError, match="and others in the lock file"):
        fetch(kernel(tmp_path), cache)


def several(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, *first: str) -> None:
    """Mirrors that are asked before the one that is whole: copies of it under these names."""
    files = mirror.server.files
    for name in first:
        copies = {path.replace("debian/", f"{name}/", 1): content for path, content in files.items()}
        mirror.server.files |= {path: content for path, content in copies.items() if path.startswith(f"{name}/")}
    names = [f"{mirror.server.url}/{name}" for name in first]
    monkeypatch.setenv("VMATLAS_DEBIAN_MIRROR", " ".join([*names, mirror.url]))


@pytest.mark.usefixtures("carrier")
def test_a_mirror_that_lies_is_passed_over_and_told(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(mirror, monkeypatch, "liar")
    path = IMAGE.format("6.12.10").replace("debian/", "liar/", 1)
    mirror.server.files[path] = mirror.server.files[path][:-1] + b"!"
    fetched = fetch(kernel(tmp_path, '  below: "7"'), cache)
    assert fetched.release == "6.12.10-1"
    (note,) = fetched.notes
    assert note.startswith("a mirror was passed over: ") and "liar" in note
    assert hashlib.sha256(fetched.files[0].read_bytes()).hexdigest() == fetched.digests[0]


@pytest.mark.parametrize("fault", ["away", "unsigned", "no such package", "refuses"])
def test_a_mirror_of_which_nothing_can_be_had_does_not_stop_the_others(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: Signer, fault: str
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "apt-get" else which(name))
    several(mirror, monkeypatch, "first")
    files = mirror.server.files
    if fault == "away":
        for path in [path for path in files if path.startswith("first/")]:
            del files[path]
    elif fault == "unsigned":
        files["first/dists/trixie/InRelease"] = stranger.sign(b"Origin: Debian\nSuite: trixie\nCodename: trixie\n")
    elif fault == "no such package":
        del files[IMAGE.format("6.12.10").replace("debian/", "first/", 1)]
    else:
        mirror.server.refusals["first/dists/trixie/InRelease"] = [403]
    fetched = fetch(kernel(tmp_path, '  below: "7"'), cache)
    assert fetched.release == "6.12.10-1", "the newest in range: another mirror has it"
    assert [note.partition(": ")[0] for note in fetched.notes] == ["a mirror was passed over"]
    mirror.server.asked.clear()
    assert fetch(kernel(tmp_path, '  below: "7"'), cache).release == "6.12.10-1"
    assert mirror.server.asked == []


def test_a_mirror_that_falls_silent_is_passed_over(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "apt-get" else which(name))
    several(mirror, monkeypatch, "slow")
    mirror.server.stalled["slow/dists/trixie/InRelease"] = 10
    monkeypatch.setattr(downloading, "_SILENCE", 1.0)
    monkeypatch.setattr(downloading, "_ATTEMPTS", 1)
    publishers = Publishers("x86_64", cache, tmp_path / "space", time.monotonic() + PATIENCE, lambda *_: None)
    index = publishers.index("trixie")
    assert b"linux-image-6.12.10" in index.read_bytes()
    assert "slow/dists/trixie/InRelease" in publishers.passed_over[0]


def test_where_all_mirrors_fail_the_worst_is_told(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "apt-get" else which(name))
    several(mirror, monkeypatch, "liar")
    path = IMAGE.format("6.12.10")
    mirror.server.files[path.replace("debian/", "liar/", 1)] = b"x" * len(mirror.server.files[path])
    del mirror.server.files[path]
    with pytest.raises(VerificationError, match="liar"):
        fetch(kernel(tmp_path, '  below: "7"'), cache)


def test_no_mirror_has_more_than_its_part_of_the_time(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(mirror, monkeypatch, "slow")
    began = time.monotonic()
    publishers = Publishers("x86_64", cache, tmp_path, began + 4 * PATIENCE, lambda *_: None)
    first, last = publishers._archive(f"{mirror.server.url}/slow", 2), publishers._archive(mirror.url, 1)
    assert first._end == pytest.approx(began + 2 * PATIENCE, abs=PATIENCE / 2)
    assert last._end == pytest.approx(began + 4 * PATIENCE, abs=PATIENCE / 2)
