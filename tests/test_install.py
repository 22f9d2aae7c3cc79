"""What is told about installing works, and never names what is in no index as if it were in one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.installed import companions, how_to_install

ROOT = Path(__file__).parents[1]
FOLDERS = runpy.run_path(str(ROOT / "ci" / "lock.py"))["distributions"]()
PROJECTS = {
    told["name"]: (folder, told)
    for folder in FOLDERS
    for told in [tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]]
}
SYSTEMS = {"Linux": "linux", "FreeBSD": "freebsd", "NetBSD": "netbsd", "QNX": "qnx"}


def said_about_installing() -> list[str]:
    """What follows `pip install`, and what else installs, in all that users read: documents, code, manual."""
    told = []
    for path in [
        *(ROOT / each for each in ("README.md", "CHANGELOG.md", "tasks.py", "run", "conftest.py")),
        *(ROOT / "docs").glob("**/*.md"),
        *(ROOT / "findings").glob("*.md"),
        *(ROOT / "ci").glob("*.py"),
        *(ROOT / ".github").glob("**/*.yml"),
    ] + [
        path
        for folder in ("core", "images", "platforms", "tests")
        for pattern in ("**/*.md", "**/*.py", "man/*.1")
        for path in (ROOT / folder).glob(pattern)
    ]:
        if path != Path(__file__):
            for line in path.read_text("utf-8").splitlines():
                told += re.findall(
                    r"(?:(?:\b(?:pip3?|pipx)|uv (?:pip|tool)) (?:install|run|download(?= -))|\buv add|\buvx) ([^`#)]*)",
                    line,
                )
    return told


def test_nothing_tells_to_take_from_an_index_what_we_have_not_put_there() -> None:
    told = said_about_installing()
    assert len(told) > 15
    wrong = [each for each in told if re.search(r"(?<![./\w-])vmatlas", each) and "--no-index" not in each]
    assert wrong == [], "whoever registers that name has it installed"


def test_what_is_told_to_be_taken_from_an_index_is_in_one() -> None:
    """All that the project names is in its locks, which hold the digests of what an index had under that name."""
    locked = {
        name.lower().replace("_", "-")
        for lock in [ROOT / "tests" / "requirements.lock", *(ROOT / "ci").glob("*.lock")]
        for name in re.findall(r"(?m)^([A-Za-z0-9][\w.-]*)==", lock.read_text("utf-8"))
    }
    assert len(locked) > 100
    named = set()
    for told in said_about_installing():
        if "--no-index" in told:
            continue
        words = re.split(r"[\s,;:]+", re.sub(r"\{[^}]*\}|[\"'].*", "", told))
        for word in words:
            if not re.fullmatch(r"[A-Za-z][\w.-]*[A-Za-z0-9]", word) or word == "or":
                break
            named.add(word)
    assert named >= {"textual", "symbolic", "prometheus-client", "pyarrow", "duckdb", "pandas", "altair"}
    assert named - locked == {"vl-convert-python"}, (
        "which is Altair's, looked up on 2026-11-30; no part of the project takes it"
    )


@pytest.mark.parametrize("name", sorted(PROJECTS))
def test_a_hint_names_the_folder_of_a_checkout_that_there_is(name: str) -> None:
    hint = how_to_install(name)
    assert hint is not None
    where = hint.rpartition("pip install ")[2]
    if name == "vmatlas":
        return  # who is told has it
    assert (ROOT / where).resolve() == PROJECTS[name][0]
    assert f"--no-index --find-links FOLDER {name} " in hint


def test_every_extra_of_ours_is_of_a_distribution_that_there_is() -> None:
    assert companions() == PROJECTS.keys() - {"vmatlas"}
    assert companions("qnx") == {"vmatlas-qnx"}
    assert companions("plan9") == frozenset()


@pytest.mark.parametrize(("system", "extra"), SYSTEMS.items())
def test_vmatlas_brings_the_plugins_of_the_system_it_is_installed_on(system: str, extra: str) -> None:
    there = {**default_environment(), "platform_system": system, "extra": ""}
    told = PROJECTS["vmatlas"][1]
    asked = [Requirement(each) for each in told["dependencies"]]
    wanted = [each for each in asked if each.marker is None or each.marker.evaluate(there)]
    ours = sorted(str(each).partition(";")[0] for each in wanted if each.name.startswith("vmatlas"))
    assert ours == sorted(str(Requirement(each)) for each in told["optional-dependencies"][extra])
    assert {each.name for each in wanted} >= {"click", "rich", "pyyaml"}
    assert all(Requirement(each).specifier.contains(told["version"]) for each in ours)


def test_every_plugin_is_built_in_one_way() -> None:
    files = [folder / "setup.py" for folder in FOLDERS if folder.parent.name == "platforms"]
    there = [path.read_bytes() for path in files if path.exists()]
    assert len(there) == 5
    assert len(set(there)) == 1


def test_the_checkout_as_one_distribution_has_all_plugins_and_takes_none_from_an_index(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys, checkout; checkout.build_wheel(sys.argv[1])", str(tmp_path)]
    pure = {**os.environ, "VMATLAS_TWINS": "no"}
    done = subprocess.run(command, env=pure, cwd=ROOT / "ci", timeout=PATIENCE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("vmatlas-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
        (folder,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        metadata = Parser().parsestr(held.read(f"{folder}/METADATA").decode())
        entries = held.read(f"{folder}/entry_points.txt").decode()
        licence = held.read(f"{folder}/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "MIT"
    inside = {name for name, (place, _) in PROJECTS.items() if place.parent.name == "platforms"}
    assert not inside & {Requirement(each).name for each in metadata.get_all("Requires-Dist", [])}
    for name in inside:
        for group, told in PROJECTS[name][1]["entry-points"].items():
            section = entries.partition(f"[{group}]\n")[2].partition("\n\n")[0].splitlines()
            assert {f"{key} = {value}" for key, value in told.items()} <= set(section)
        assert f"{name.replace('-', '_')}/__init__.py" in names
    assert "vmatlas = vmatlas.cli:main" in entries
    assert [name for name in names if name.endswith((".so", ".pyc")) or "/tests/" in name] == []


def ci(name: str) -> dict[str, Any]:
    """What a program of ci/ holds."""
    sys.path.insert(0, str(ROOT / "ci"))
    try:
        return runpy.run_path(str(ROOT / "ci" / f"{name}.py"))
    finally:
        sys.path.remove(str(ROOT / "ci"))


def test_a_compiler_for_another_machine_is_told_nothing_of_this_one() -> None:
    told = ["-Wall", "-g", "-O3", "-fwrapv", "-L/root/lib", "-Wl,-rpath,/root/lib", "-march=native"]
    kept = [
        "-std=c99",
        "-O2",
        "-D_GNU_SOURCE",
        "-Inative",
        "-c",
        "module.c",
        "-o",
        "module.o",
        "-pthread",
        "-shared",
        "-fPIC",
    ]
    assert ci("compiler")["chosen"]([*told, *kept]) == kept


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ({}, "holds no twin"),
        ({"vmatlas_qnx/_native.abi3.so": b"\x7fELF" + bytes(14) + b"\x3e\0"}, "is for another processor"),
        ({"vmatlas_qnx/_native.abi3.so": b"\x7fELF" + bytes(14) + b"\xb7\0" + os.fsencode(ROOT)}, "names a folder"),
        ({"vmatlas_qnx/_native.abi3.so": b"\x7fELF" + bytes(14) + b"\xb7\0"}, None),
    ],
)
def test_a_wheel_that_is_not_what_its_name_says_is_refused(
    inside: dict[str, bytes], told: str | None, tmp_path: Path
) -> None:
    wheel = tmp_path / "vmatlas_qnx-0.1.0-cp311-abi3-manylinux_2_17_aarch64.whl"
    with zipfile.ZipFile(wheel, "w") as held:
        for name, content in inside.items():
            held.writestr(name, content)
    wheels = ci("wheels")
    try:
        wheels["_check"](wheel, ["vmatlas_qnx/_native.abi3.so"])
    except wheels["Unfit"] as unfit:
        assert told is not None and told in str(unfit)
    else:
        assert told is None


README = "[how](../docs/install.md#from-wheels), [docs/cli.md](../docs/cli.md), [x](https://example.org/x), `a[0](1)`"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Of a distribution in core/, to be built."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def test_the_address_of_a_release_is_in_the_metadata_and_in_the_links_of_the_readme(copy: Path) -> None:
    wheels = ci("wheels")
    wheels["_tell_where"](copy, "core", wheels["address"]("https://example.org/vmatlas/"))
    told = tomllib.loads((copy / "pyproject.toml").read_text())["project"]
    assert told["urls"]["Source"] == "https://example.org/vmatlas"
    assert (copy / "README.md").read_text() == (
        "[how](https://example.org/vmatlas/blob/HEAD/docs/install.md#from-wheels), "
        "[docs/cli.md](https://example.org/vmatlas/blob/HEAD/docs/cli.md), [x](https://example.org/x), `a[0](1)`"
    )


def test_what_is_built_without_an_address_has_none_and_no_link_that_leads_nowhere(copy: Path) -> None:
    ci("wheels")["_tell_where"](copy, "core", "")
    assert "urls" not in tomllib.loads((copy / "pyproject.toml").read_text())["project"]
    assert (copy / "README.md").read_text() == (
        "how (`docs/install.md` in the repository), docs/cli.md, [x](https://example.org/x), `a[0](1)`"
    )


@pytest.mark.parametrize("url", ["", "https://example.org/vmatlas"])
@pytest.mark.parametrize("name", sorted(PROJECTS))
def test_the_readme_of_a_distribution_leads_somewhere_from_wherever_it_is_read(
    name: str, url: str, tmp_path: Path
) -> None:
    folder = PROJECTS[name][0]
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(folder / file, tmp_path)
    assert "urls" not in PROJECTS[name][1], "which would be of somebody else"
    ci("wheels")["_tell_where"](tmp_path, folder.relative_to(ROOT).as_posix(), url)
    led = re.findall(r"\]\(([^)]*)\)", (tmp_path / "README.md").read_text())
    assert all(where.startswith((f"{url}/blob/HEAD/" if url else "https://", "#")) for where in led), led


def test_a_link_of_a_readme_to_nothing_is_not_built(copy: Path) -> None:
    (copy / "README.md").write_text("[how](../docs/no-such.md)")
    wheels = ci("wheels")
    with pytest.raises(wheels["Unfit"], match="there is no"):
        wheels["_tell_where"](copy, "core", "")


@pytest.mark.parametrize(
    "given", ["example.org/x", "http://example.org/x", "https:///x", "https://e.org/a b", "https://e.org/?q"]
)
def test_what_is_no_address_of_a_repository_is_refused(given: str) -> None:
    command = [sys.executable, str(ROOT / "ci" / "wheels.py"), "--url", given]
    done = subprocess.run(command, timeout=PATIENCE, capture_output=True, text=True)
    assert done.returncode == 2
    assert "is not an address such as https://" in done.stderr


# A release that is signed


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder as `invoke wheels` leaves it."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in ("vmatlas-0.1.0-py3-none-any.whl", "vmatlas.intoto.json"):
        (folder / name).write_bytes(name.encode())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


@pytest.fixture
def ssh_key(tmp_path: Path) -> Path:
    """A key that nobody has used, and beside it who may sign: `signers`."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed here")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    (tmp_path / "signers").write_text(f"releaser@example.org {key.with_suffix('.pub').read_text()}")
    return key


def test_a_release_is_signed_and_verified_by_a_key_of_ssh(release: Path, ssh_key: Path) -> None:
    signing = ci("sign")
    assert signing["sign"](release, str(ssh_key)) == release / "SHA256SUMS.sig"
    assert "releaser@example.org" in signing["verify"](release, ssh_key.with_name("signers"))
    (release / "vmatlas.intoto.json").unlink()  # whoever downloads takes what they need
    signing["verify"](release, ssh_key.with_name("signers"))


@pytest.mark.parametrize("what", ["a file", "the list", "both", "one more file", "another key", "no signature"])
def test_what_is_not_as_it_was_signed_is_refused(release: Path, ssh_key: Path, what: str) -> None:
    signing = ci("sign")
    signing["sign"](release, str(ssh_key))
    wheel, listed = release / "vmatlas-0.1.0-py3-none-any.whl", release / "SHA256SUMS"
    if what in ("a file", "both"):
        old = hashlib.sha256(wheel.read_bytes()).hexdigest()
        wheel.write_bytes(b"another")
        if what == "both":
            listed.write_text(listed.read_text().replace(old, hashlib.sha256(b"another").hexdigest()))
    elif what == "the list":
        listed.write_text(listed.read_text() + "\n")
    elif what == "one more file":
        (release / "vmatlas-9-py3-none-any.whl").write_bytes(b"")
    elif what == "another key":
        other = ssh_key.with_name("other")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", other], check=True)
        signing["sign"](release, str(other))
    else:
        (release / "SHA256SUMS.sig").unlink()
    with pytest.raises(signing["Unsound"]):
        signing["verify"](release, ssh_key.with_name("signers"))


def test_what_the_list_does_not_tell_rightly_is_not_signed(release: Path, ssh_key: Path) -> None:
    signing = ci("sign")
    (release / "vmatlas.intoto.json").unlink()
    with pytest.raises(signing["Unsound"], match=r"vmatlas\.intoto\.json"):
        signing["sign"](release, str(ssh_key))
    assert not (release / "SHA256SUMS.sig").exists()


def test_a_release_is_signed_and_verified_by_a_key_of_gpg(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed here")
    signing = ci("sign")
    with tempfile.TemporaryDirectory(prefix="gpg") as home:  # the path of the agent's socket must be short
        monkeypatch.setenv("GNUPGHOME", home)
        made = [
            "gpg",
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--quick-generate-key",
            "releaser@example.org",
            "ed25519",
        ]
        try:
            done = subprocess.run(made, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"gpg makes no key here: {done.stderr.strip()[-200:]}")
            assert signing["sign"](release, "r@example.org") == release / "SHA256SUMS.asc"
            assert len(signing["verify"](release, None)) == 40  # the fingerprint
            (release / "SHA256SUMS").write_text((release / "SHA256SUMS").read_text() + "\n")
            with pytest.raises(signing["Unsound"]):
                signing["verify"](release, None)
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], check=False)


# A release that is attested


@pytest.fixture
def attested(tmp_path: Path) -> Path:
    """A folder with a statement of what was made, and a key beside it that nobody has used: `key.pem`, `public.pem`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed here")
    folder = tmp_path / "dist"
    folder.mkdir()
    wheel = folder / "vmatlas-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    wheels = ci("wheels")
    if ROOT.stat().st_uid != os.geteuid():
        with pytest.raises(wheels["Unfit"], match="a clone of one's own"):
            wheels["_made_of"](folder, "")
        pytest.skip("git tells another user nothing of this checkout")
    statement = wheels["_made_of"](folder, "https://example.org/vmatlas")
    assert [each["name"] for each in statement["subject"]] == [wheel.name]
    (folder / "vmatlas.intoto.json").write_text(json.dumps(statement, indent=2) + "\n")
    key_pair(tmp_path / "key.pem", tmp_path / "public.pem", "-algorithm", "ed25519")
    return folder


def key_pair(private: Path, public: Path, *kind: str) -> None:
    for words in (["genpkey", *kind, "-out", private], ["pkey", "-in", private, "-pubout", "-out", public]):
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=PATIENCE)


@pytest.mark.parametrize("kind", ["ed25519", "P-256"])
def test_what_a_release_was_made_of_is_attested_and_verified_without_a_network(attested: Path, kind: str) -> None:
    key, public = attested.with_name("key.pem"), attested.with_name("public.pem")
    if kind == "P-256":
        key_pair(key, public, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    attesting = ci("attest")
    made = attesting["attest"](attested, key)
    told = attesting["verify"](attested, public)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"1 files of commit {commit.strip()}, by the key ")
    # The envelope by the letter of DSSE: what is signed is the type and the payload, each after its length.
    envelope = json.loads(made.read_text())
    payload = base64.b64decode(envelope["payload"])
    assert payload == (attested / "vmatlas.intoto.json").read_bytes()
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    (attested.with_name("text")).write_bytes(f"DSSEv1 28 {envelope['payloadType']} {len(payload)} ".encode() + payload)
    (attested.with_name("sig")).write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    words = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "public.pem", "-in", "text", "-sigfile", "sig"]
    subprocess.run(["openssl", *words], cwd=attested.parent, check=True, capture_output=True, timeout=PATIENCE)
    statement = json.loads(payload)
    assert statement["predicate"]["buildDefinition"]["buildType"].startswith("https://example.org/vmatlas/blob/")


@pytest.mark.parametrize(
    "what",
    [
        "a file",
        "one more file",
        "the payload",
        "its type",
        "another key",
        "no key",
        "no envelope",
        "nothing",
        "no file",
    ],
)
def test_what_is_not_as_it_was_attested_is_refused(attested: Path, what: str) -> None:
    attesting = ci("attest")
    public = attested.with_name("public.pem")
    made = attesting["attest"](attested, attested.with_name("key.pem"))
    envelope = json.loads(made.read_text())
    wheel = attested / "vmatlas-0.1.0-py3-none-any.whl"
    if what == "a file":
        wheel.write_bytes(b"another wheel")
    elif what == "one more file":
        (attested / "vmatlas-9-py3-none-any.whl").write_bytes(b"")
    elif what == "no file":
        wheel.unlink()
    elif what == "the payload":
        other = base64.b64decode(envelope["payload"]).replace(b"https://example.org", b"https://example.net")
        made.write_text(json.dumps(envelope | {"payload": base64.b64encode(other).decode()}))
    elif what == "its type":
        made.write_text(json.dumps(envelope | {"payloadType": "text/plain"}))
    elif what == "another key":
        key_pair(attested.with_name("other.pem"), public, "-algorithm", "ed25519")
    elif what == "no key":
        public.write_text("no key")
    elif what == "no envelope":
        made.write_text("{}")
    else:
        made.unlink()
    with pytest.raises(attesting["Unsound"]):
        attesting["verify"](attested, public)


def test_what_the_statement_does_not_tell_rightly_is_not_attested(attested: Path) -> None:
    attesting = ci("attest")
    (attested / "vmatlas-0.1.0-py3-none-any.whl").write_bytes(b"another wheel")
    with pytest.raises(attesting["Unsound"], match="is not what the statement tells of"):
        attesting["attest"](attested, attested.with_name("key.pem"))
    assert not (attested / "attestation.intoto.jsonl").exists()


def test_the_version_is_one() -> None:
    assert {told["version"] for _, told in PROJECTS.values()} == {vmatlas.__version__}
