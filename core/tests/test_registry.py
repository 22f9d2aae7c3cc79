"""Plugins as they are really found: by the metadata of installed distributions."""

from __future__ import annotations

import os
import subprocess
import sys
from errno import EMFILE

import pytest

from vmatlas import registry
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import Unsupported, UsageError, VmatlasError
from vmatlas.registry import BACKENDS, SYSTEMS, Broken

from .fakes import FakeBackend


def test_an_installed_backend_is_found_by_its_name(install):
    fake = FakeBackend()
    install("vmatlas-fake", BACKENDS, "fake", fake)
    assert registry.backend("fake") is fake
    assert fake in registry.backends()


def test_backends_are_listed_by_name(install):
    for name in ("zebra", "aardvark"):
        install("vmatlas-zoo", BACKENDS, name, FakeBackend(name=name))
    names = [each.name for each in registry.backends()]
    assert names == sorted(names)
    assert {"zebra", "aardvark", "linux-procfs", "linux-ioctl"} <= set(names)


def test_a_backend_that_is_named_after_another_system_is_not_loaded_for_one(install, tmp_path):
    (tmp_path / "dear.py").write_text("raise AssertionError('it was loaded')\n")
    install("vmatlas-dear", BACKENDS, "qnx-dear", None, module="dear")
    install("vmatlas-fake", BACKENDS, "fake", fake := FakeBackend())
    names = [each.name for each in registry.backends("linux")]
    assert {"linux-procfs", "linux-ioctl", fake.name} <= set(names) and "dear" not in sys.modules
    assert not [name for name in names if name.startswith(("qnx-", "freebsd-", "netbsd-"))]
    (broken,) = [each for each in registry.backends() if isinstance(each, Broken)]
    assert broken.name == "qnx-dear" and "it was loaded" in broken.reason


def test_two_distributions_of_one_name_are_refused_with_both_their_names(install):
    install("vmatlas-fake", BACKENDS, "fake", FakeBackend())
    install("another-fake", BACKENDS, "fake", FakeBackend())
    with pytest.raises(VmatlasError, match="'fake'") as caught:
        registry.backends()
    assert "vmatlas-fake" in str(caught.value) and "another-fake" in str(caught.value)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "ModuleNotFoundError"),
        (object(), "no vmatlas.backend.Backend"),
        (FakeBackend(name="other"), "registered as 'fake' and calls itself 'other'"),
    ],
)
def test_a_broken_plugin_is_a_value_with_its_reason_and_stops_no_other(install, found, reason):
    install("vmatlas-fake", BACKENDS, "fake", found)
    (broken,) = [each for each in registry.backends() if isinstance(each, Broken)]
    assert (broken.name, broken.distribution) == ("fake", "vmatlas-fake")
    assert reason in broken.reason
    assert registry.backend("linux-procfs").name == "linux-procfs"
    with pytest.raises(Unsupported, match=f"vmatlas-fake.*{reason}"):
        registry.backend("fake")


def test_a_backend_that_is_named_after_a_system_asks_that_one(install):
    install("vmatlas-fake", BACKENDS, "qnx-fake", FakeBackend(name="qnx-fake"))
    (broken,) = [each for each in registry.backends() if isinstance(each, Broken)]
    assert (broken.name, broken.reason) == ("qnx-fake", "it is named after qnx and asks linux")


def test_a_plugin_that_raises_anything_on_import_is_broken(install, tmp_path):
    (tmp_path / "exploding.py").write_text("raise ZeroDivisionError('boom')\n")
    install("vmatlas-fake", BACKENDS, "fake", None, module="exploding")
    (broken,) = [each for each in registry.backends() if isinstance(each, Broken)]
    assert broken.reason == "ZeroDivisionError: boom"


def test_an_unknown_backend_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match="no backend 'nothing'") as caught:
        registry.backend("nothing")
    assert "linux-procfs" in caught.value.hint


def test_an_unknown_backend_of_a_known_distribution_says_what_to_install():
    with pytest.raises(Unsupported) as caught:
        registry.backend("plan9-segment", distribution="vmatlas-qnx")
    assert caught.value.hint == (
        "from the folder of wheels that vmatlas came from: pip install --no-index --find-links FOLDER vmatlas-qnx"
        "   in a checkout: pip install ./platforms/qnx"
    )


def test_an_unknown_or_broken_system_is_unsupported(install):
    with pytest.raises(Unsupported, match="'plan9'"):
        registry.system("plan9")
    install("vmatlas-nine", SYSTEMS, "plan9", None)
    with pytest.raises(Unsupported, match=r"vmatlas-nine.*ModuleNotFoundError"):
        registry.system("plan9")


def test_failure_to_look_for_plugins_is_told_and_forgotten(install, monkeypatch):
    def no_descriptor_left(path):
        raise OSError(EMFILE, os.strerror(EMFILE), path)

    install("vmatlas-fake", BACKENDS, "fake", FakeBackend())
    with monkeypatch.context() as patched:
        patched.setattr("vmatlas.installed.os.listdir", no_descriptor_left)
        for ask in (lambda: registry.system("linux"), registry.backends):
            with pytest.raises(VmatlasError, match=r"cannot look for the installed plugins.*Too many open") as caught:
                ask()
            assert not isinstance(caught.value, Unsupported)
            assert "ulimit -n" in caught.value.hint
    assert registry.system("linux").name == "linux"
    assert "fake" in [each.name for each in registry.backends()]


def test_plugin_that_an_exhausted_process_could_not_load_is_loaded_when_asked_again(install, monkeypatch, tmp_path):
    (tmp_path / "scarce.py").write_text(
        "import os\nif os.environ.get('SCARCE'): raise OSError(24, 'no more')\nFOUND = 7\n"
    )
    install("vmatlas-nine", SYSTEMS, "plan9", None, module="scarce")
    monkeypatch.setenv("SCARCE", "1")
    with pytest.raises(Unsupported, match=r"vmatlas-nine.*no more"):
        registry.system("plan9")
    monkeypatch.delenv("SCARCE")
    assert registry.system("plan9") == 7


def test_first_use_with_no_descriptor_left_says_so_and_the_next_finds_the_plugin():
    code = """if True:
        import os, resource
        import vmatlas
        from vmatlas import registry
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        try:
            registry.system("linux")
        except vmatlas.VmatlasError as error:
            said = str(error)
        for descriptor in held:
            os.close(descriptor)
        print(said)
        print(registry.system("linux").name)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    said, name = done.stdout.splitlines()
    assert "Too many open files" in said
    assert name == "linux"


def test_importing_vmatlas_loads_no_plugin_and_looks_none_up():
    code = (
        "import sys, vmatlas; print([name for name in sys.modules if 'linux' in name or name == 'importlib.metadata'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "[]\n"
