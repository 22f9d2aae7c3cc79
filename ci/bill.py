"""The bill of materials of our wheels, in CycloneDX: what each one is, what it needs, what is linked into the agents.

python ci/bill.py BILL ZIGLANG WHEEL...    run by ci/wheels.py, in the environment of ci/tools.lock
"""

from __future__ import annotations

import hashlib
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

_LICENCES = LicenseFactory()


def _digest(content: bytes) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(content).hexdigest())


def linked(ziglang: Path) -> Iterator[Component]:
    """What ziglang links into agents."""
    version = re.search(r'VERSION "([^"]+)"', (ziglang / "lib/libc/musl/src/internal/version.h").read_text())
    assert version is not None
    zig = next(ziglang.parent.glob("ziglang-*.dist-info")).name.removesuffix(".dist-info").partition("-")[2]
    for name, release, licence, where in (
        ("musl", version[1], "MIT", "the agents for Linux, statically"),
        ("zig-compiler-rt", zig, "MIT", "all agents that ziglang builds"),
        ("freebsd-csu", None, "BSD-2-Clause", "the agents for FreeBSD: start files alone"),
        ("netbsd-csu", None, "BSD-4-Clause AND BSD-2-Clause", "the agent for NetBSD: start files alone"),
    ):
        yield Component(
            name=name,
            version=release,
            type=ComponentType.LIBRARY,
            licenses=[_LICENCES.make_from_string(licence)],
            purl=PackageURL("generic", name=name, version=release),
            bom_ref=name,
            properties=[Property(name="vmatlas:linked-into", value=where)],
        )


def ours(wheels: Sequence[Path], ziglang: Path) -> tuple[Component, Message]:
    """A distribution of ours, of which there may be a wheel for each machine, as a component; and its metadata."""
    agents: list[Component] = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as held:
            names = held.namelist()
            metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
            told = BytesParser().parsebytes(held.read(metadata))
            agents += [
                Component(name=PurePosixPath(name).name, type=ComponentType.FILE, hashes=[_digest(held.read(name))])
                for name in names
                if "/built/" in name and not name.endswith(".digests")
            ]
    files = [Component(name=each.name, type=ComponentType.FILE, hashes=[_digest(each.read_bytes())]) for each in wheels]
    component = Component(
        name=told["Name"],
        version=told["Version"],
        type=ComponentType.LIBRARY,
        description=told["Summary"],
        licenses=[_LICENCES.make_from_string(told["License-Expression"])],
        purl=PackageURL("pypi", name=told["Name"], version=told["Version"]),
        bom_ref=told["Name"],
        components=[*files, *agents, *(linked(ziglang) if agents else ())],
    )
    return component, told


def bill(wheels: Sequence[Path], ziglang: Path) -> Bom:
    """The bill of some wheels. What they need of others' is named with its bounds; it is not in them."""
    by_name: dict[str, list[Path]] = {}
    for wheel in wheels:
        by_name.setdefault(wheel.name.partition("-")[0], []).append(wheel)
    made = [ours(each, ziglang) for each in by_name.values()]
    known = {component.name: component for component, _ in made}
    bom = Bom(components=known.values())
    for component, told in made:
        needed = []
        for need in told.get_all("Requires-Dist", ()):
            name, rest = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[.*?\])?\s*(.*)", need).groups()
            if name not in known:
                known[name] = Component(
                    name=name,
                    type=ComponentType.LIBRARY,
                    purl=PackageURL("pypi", name=name),
                    bom_ref=name,
                    properties=[Property(name="vmatlas:required-as", value=rest or "any")],
                )
                bom.components.add(known[name])
            if known[name] is not component:
                needed.append(known[name])
        bom.register_dependency(component, needed)
    return bom


def main(output: str, ziglang: str, *wheels: str) -> None:
    """Write it, once it is what the schema wants. Raises ValueError."""
    text = JsonV1Dot6(bill([Path(each) for each in wheels], Path(ziglang))).output_as_string(indent=2)
    if (wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ValueError(f"the bill of materials is none: {wrong}")
    Path(output).write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
