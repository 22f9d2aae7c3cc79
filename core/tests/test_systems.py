"""What POSIX tells of the machine that runs this, held to the system's own commands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vmatlas import UsageError, registry
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model.system import has_64_bits
from vmatlas.systems.names import VARIABLE, system_called
from vmatlas.systems.posix import describe_machine, describe_user
from vmatlas.target.program import Hello


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.strip()


def test_machine_is_as_uname_and_getconf_say() -> None:
    told = describe_machine("plan9")
    assert (told.system, told.byte_order) == ("plan9", sys.byteorder)
    assert (told.release, told.version, told.machine) == (said("uname", "-r"), said("uname", "-v"), said("uname", "-m"))
    assert told.page_size == int(said("getconf", "PAGESIZE"))


@pytest.mark.parametrize(("machine", "largest", "width"), [
    ("x86_64", 2**31 - 1, 64), ("i686", 2**31 - 1, 32), ("x86pc", 2**63 - 1, 64), ("evbarm", 2**63 - 1, 64),
])  # fmt: skip
def test_kernel_is_as_wide_as_its_processor_or_this_python(
    monkeypatch: pytest.MonkeyPatch, machine: str, largest: int, width: int
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Plan9", "here", "4", "now", machine)))
    monkeypatch.setattr(sys, "maxsize", largest)
    assert describe_machine("plan9").pointer_width == width


@pytest.mark.parametrize("machine", [
    "x86_64", "amd64", "aarch64", "arm64", "aarch64le", "aarch64_be", "riscv64", "ppc64le", "powerpc64", "mips64el",
    "s390x", "sparc64", "loongarch64", "alpha",
])  # fmt: skip
def test_processors_of_64_bits_are_known_by_name(machine: str) -> None:
    assert has_64_bits(machine)


@pytest.mark.parametrize(
    "machine", ["i386", "i686", "armv7l", "armv6l", "evbarm", "mips", "ppc", "riscv32", "s390", "x86pc", ""]
)
def test_others_are_not(machine: str) -> None:
    assert not has_64_bits(machine)


@pytest.mark.parametrize(
    ("real", "effective", "told"), [(1000, 1000, "uid 1000"), (0, 0, "uid 0, root"), (7, 0, "uid 7, root")]
)
def test_user_is_told_with_what_it_may(monkeypatch: pytest.MonkeyPatch, real: int, effective: int, told: str) -> None:
    monkeypatch.setattr(os, "getuid", lambda: real)
    monkeypatch.setattr(os, "geteuid", lambda: effective)
    assert describe_user() == told


@pytest.mark.parametrize(
    ("declared", "said", "served"),
    [
        ("", "Linux", "linux"),
        ("", "ExampleBSD", "examplebsd"),
        ("examplebsd=freebsd", "ExampleBSD", "freebsd"),
        ("ExampleBSD=FreeBSD, other=netbsd", "other", "netbsd"),
        ("examplebsd=freebsd", "NetBSD", "netbsd"),
    ],
)
def test_a_derived_system_is_served_as_declared_and_by_no_guess(
    monkeypatch: pytest.MonkeyPatch, declared: str, said: str, served: str
) -> None:
    monkeypatch.setenv(VARIABLE, declared)
    assert system_called(said) == served
    assert Hello({"system": said}).system == served


@pytest.mark.parametrize("declared", ["examplebsd", "=freebsd", "linux=freebsd"])
def test_a_declaration_that_is_none_is_a_wrong_usage(monkeypatch: pytest.MonkeyPatch, declared: str) -> None:
    monkeypatch.setenv(VARIABLE, declared)
    with pytest.raises(UsageError, match="names no derived systems"):
        system_called("ExampleBSD")


def test_a_distribution_declares_one_by_registering_the_system_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = registry.entries(registry.SYSTEMS)["linux"]
    monkeypatch.setattr(registry, "entries", lambda group: {"derived": linux})
    monkeypatch.setattr(registry, "system", lambda name: {"derived": linux.load()}[name])
    assert system_called("Derived") == "linux"
