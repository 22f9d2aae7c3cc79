"""The paths of cgroups, as machines tell them: which unit, which container; and the counters that their files hold."""

from __future__ import annotations

import json
import os
import time
from errno import EACCES, ENAMETOOLONG, ESRCH
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import NoSuchProcess, legible
from vmatlas.model import ProcessInfo
from vmatlas.selection.resolving import select
from vmatlas.systems.linux import cgroups, container_names, membership
from vmatlas.systems.linux.cgroup_memory import of_v1, of_v2
from vmatlas.systems.linux.cgroups import containers_of, main_place, memory_place, parts_of, places_of, unit_of

ID = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970"
OTHER = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"
POD = "6f0e2ab7_9d35_4c3e_8f6b_0a3f6e6b7d11"

CONTAINERS = {
    f"/docker/{ID}": ("docker", ID),
    f"/system.slice/docker-{ID}.scope": ("docker", ID),
    f"/system.slice/docker-{ID}.scope/init": ("docker", ID),
    f"/../../system.slice/docker-{ID}.scope": ("docker", ID),
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope": ("docker", ID),
    f"/machine.slice/libpod-{ID}.scope/container": ("podman", ID),
    f"/libpod_parent/libpod-{ID}": ("podman", ID),
    f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope": ("podman", ID),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD}.slice/cri-containerd-{ID}.scope": (
        "containerd",
        ID,
    ),
    f"/kubepods.slice/kubepods-pod{POD}.slice/crio-{ID}.scope": ("cri-o", ID),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD}.slice/crio-{ID}.scope/container": (
        "cri-o",
        ID,
    ),
    f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{POD}.slice/cri-containerd-{ID}.scope": (
        "containerd",
        ID,
    ),
    f"/system.slice/containerd.service/kubepods-besteffort-pod{POD}.slice:cri-containerd:{ID}": ("containerd", ID),
    f"/kubepods-besteffort-pod{POD}.slice:cri-containerd:{ID}": ("containerd", ID),
    f"/kubepods/pod6f0e2ab7-9d35-4c3e-8f6b-0a3f6e6b7d11/{ID}": ("kubernetes", ID),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod414cbe698d5a4d9f8ad46606f7f69e33.slice/"
    f"cri-containerd-{ID}.scope": ("containerd", ID),  # of a file of the kubelet's own: no minuses in its number
    f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD}.slice/docker-{ID}.scope": ("docker", ID),
    f"/kubepods/burstable/pod6f0e2ab7-9d35-4c3e-8f6b-0a3f6e6b7d11/{ID}": ("kubernetes", ID),
    f"/kubepods/besteffort/pod6f0e2ab7-9d35-4c3e-8f6b-0a3f6e6b7d11/crio-{ID}": ("cri-o", ID),
    f"/default/{ID}": ("", ID),
    f"/{ID}": ("", ID),
    f"/system.slice/nerdctl-{ID}.scope": ("containerd", ID),
    "/ecs/eb2c3a0c7d4d4f0a8d1c9d8a5d2f1b6e/eb2c3a0c7d4d4f0a8d1c9d8a5d2f1b6e-1234567890": (
        "ecs",
        "eb2c3a0c7d4d4f0a8d1c9d8a5d2f1b6e-1234567890",
    ),
    "/lxc.payload.web/system.slice/ssh.service": ("lxc", "web"),
    "/lxc/101/ns/init.scope": ("lxc", "101"),
    "/lxc.payload/web": ("lxc", "web"),
    r"/machine.slice/systemd-nspawn@debian\x2dtest.service/payload": ("nspawn", "debian-test"),
    r"/machine.slice/machine-debian\x2dtest.scope": ("machined", "debian-test"),
}
NO_CONTAINER = [
    "/",
    "/init.scope",
    "/system.slice/docker.service",
    "/user.slice/user-1000.slice/session-3.scope",
    f"/machine.slice/libpod-conmon-{ID}.scope",
    f"/kubepods.slice/crio-conmon-{ID}.scope",
    f"/system.slice/docker-{ID[1:]}.scope",
    "/lxc.monitor.web",
    "/lxc.monitor/101",
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
    "/kubepods.slice",
]


@pytest.mark.parametrize("path", CONTAINERS)
def test_a_container_is_known_by_the_path_of_its_cgroup(path):
    [found] = containers_of(parts_of(path))
    assert (found.maker, found.id) == CONTAINERS[path]
    folder = parts_of(path)[: found.depth]
    assert cgroups.container(frozenset([found.id]))(parts_of(path)) == len(folder)
    assert found.short == (found.id if found.is_named else found.id[:12])


@pytest.mark.parametrize("path", NO_CONTAINER)
def test_who_watches_a_container_is_in_none_nor_is_any_other(path):
    assert containers_of(parts_of(path)) == ()


def test_a_container_in_a_container_is_in_both():
    inner = (
        f"/docker/{OTHER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-containerd-{ID}.scope"
    )
    assert [each.id for each in containers_of(parts_of(inner))] == [OTHER, ID]
    assert [each.id for each in containers_of(parts_of("/lxc.payload.a/lxc.payload.b"))] == ["a", "b"]


@pytest.mark.parametrize("name", ["ecs", "docker", "lxc", "pod1", "docker/ecs", "a", f"docker/{ID}", "ecs/lxc"])
def test_a_path_of_whatever_folders_costs_what_its_length_is(name):
    """Whoever may make cgroups of his own chooses 4,000 bytes: once that took 10 seconds of a processor."""
    begun = time.process_time()
    for number in range(20):  # different ones: none is remembered
        containers_of(parts_of(f"/{number}/" + f"{name}/" * (4000 // (len(name) + 1))))
    assert time.process_time() - begun < PATIENCE / 4


def test_a_container_is_found_above_whatever_its_own_processes_make_below_it():
    deep = f"/docker/{OTHER}" + "/ecs" * cgroups.DEEPEST + f"/docker-{ID}.scope"
    assert [each.id for each in containers_of(parts_of(deep))] == [OTHER]


def test_what_a_container_stands_in_says_nothing_of_those_inside():
    named = "eb2c3a0c7d4d4f0a8d1c9d8a5d2f1b6e-1234567890"
    assert [each.maker for each in containers_of(parts_of(f"/docker/{OTHER}/x/{ID}"))] == ["docker", ""]
    assert [each.maker for each in containers_of(parts_of(f"/ecs/{OTHER}/{named}"))] == [""]
    assert [each.maker for each in containers_of(parts_of(f"/ecs/x/y/{named}"))] == ["ecs"]


def test_the_cgroups_of_a_pod_are_those_of_its_container_whatever_each_hierarchy_calls_them():
    """Of v1, as a node told them whose containerd and kubelet did not agree on who makes cgroups."""
    name = f"kubepods-besteffort-pod{POD}.slice:cri-containerd:{ID}"
    text = "".join(
        f"{number}:{controllers}:{above}/{name}\n"
        for number, controllers, above in (
            (5, "memory", "/system.slice/containerd.service"),
            (4, "cpuset", ""),
            (3, "cpu,cpuacct", "/system.slice/containerd.service"),
            (2, "freezer", ""),
        )
    )
    text += "1:name=systemd:/system.slice/containerd.service/" + name + "\n0::/system.slice/containerd.service\n"
    places = cgroups.places_of(text.encode())
    found = cgroups.container_in(places)
    assert found is not None and (found.maker, found.id) == ("containerd", ID)
    assert cgroups.unit_in(places) == "containerd.service"
    assert cgroups.counted_in(places, "container") == f"/system.slice/containerd.service/{name}"


@pytest.mark.parametrize(
    ("path", "unit", "depth"),
    [
        ("/system.slice/nginx.service", "nginx.service", 2),
        ("/system.slice/nginx.service/worker", "nginx.service", 2),
        ("/system.slice/system-postgresql.slice/postgresql@16-main.service", "postgresql@16-main.service", 3),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", "foo.service", 5),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "init.scope", 4),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", 3),
        ("/system.slice", "system.slice", 1),
        (r"/system.slice/systemd-fsck@dev-disk-by\x2duuid-1.service", r"systemd-fsck@dev-disk-by\x2duuid-1.service", 2),
        ("/system.slice/_cpu.service", "cpu.service", 2),
        ("/system.slice/dbus.socket", "dbus.socket", 2),
        ("/system.slice/nginx.service (deleted)", "nginx.service", 2),
    ],
)
def test_a_unit_is_the_innermost_that_is_no_slice(path, unit, depth):
    assert unit_of(parts_of(path)) == (unit, depth)
    assert cgroups.unit(unit)(parts_of(path)) == depth


def test_what_counts_memory_is_of_the_unit_itself_or_nothing_is():
    far = b"4:memory:/system.slice/nginx.service\n1:name=systemd:/system.slice/nginx.service\n0::/\n"
    near = b"4:memory:/system.slice\n3:cpu:/\n1:name=systemd:/system.slice/nginx.service\n0::/\n"
    inner = b"0::/user.slice/user-1.slice/user@1.service/app.slice/x.service/sub\n"
    for text, unit, counted in (
        (far, "nginx.service", "/system.slice/nginx.service"),
        (near, "nginx.service", None),
        (inner, "x.service", "/user.slice/user-1.slice/user@1.service/app.slice/x.service"),
        (b"0::/\n", None, None),
    ):
        places = places_of(text)
        assert (cgroups.unit_in(places), cgroups.counted_in(places, "unit")) == (unit, counted)
    assert cgroups.counted_in(places_of(near), "cgroup") == "/system.slice"
    assert cgroups.counted_in(places_of(b"9:pids:/a/b\n4:memory:/a\n"), "cgroup") is None
    assert cgroups.counted_in(places_of(inner), "cgroup") == inner.decode()[3:-1]


def test_what_counts_memory_is_of_the_container_itself_or_nothing_is():
    scope = f"/system.slice/docker-{ID}.scope"
    assert cgroups.counted_in(places_of(f"0::{scope}/init\n".encode()), "container") == scope
    assert cgroups.counted_in(places_of(f"4:memory:/\n1:name=systemd:{scope}\n".encode()), "container") is None
    assert cgroups.counted_in(places_of(b"0::/system.slice\n"), "container") is None


def test_a_path_without_units_has_none():
    assert unit_of(parts_of("/docker/x")) is None
    assert unit_of(()) is None


@pytest.mark.parametrize(
    ("wanted", "path", "depth"),
    [
        ("nginx", "/system.slice/nginx.service", 2),
        ("nginx.service", "/system.slice/nginx-debug.service", None),
        ("postgresql@*", "/system.slice/system-postgresql.slice/postgresql@16-main.service", 3),
        ("user@1000.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", 3),
        ("user-1000.slice", "/user.slice/user-1000.slice/session-3.scope", 2),
        ("foo-bar.service", r"/system.slice/foo\x2dbar.service", 2),
        (r"foo\x2dbar.service", r"/system.slice/foo\x2dbar.service", 2),
        ("nginx", "/docker/nginx", None),
    ],
)
def test_a_unit_is_found_by_name_and_pattern_with_and_without_escapes(wanted, path, depth):
    assert cgroups.unit(wanted)(parts_of(path)) == depth


def test_a_cgroup_holds_those_below_it_and_no_namesake():
    match = cgroups.folder("/a/b/")
    assert match(parts_of("/a/b")) == match(parts_of("/a/b/c")) == 2
    assert match(parts_of("/a")) is match(parts_of("/a/bc")) is match(parts_of("/x/a/b")) is None
    assert cgroups.folder("/")(parts_of("/anything")) == 0


V2 = b"0::/system.slice/nginx.service\n"
V1 = b"5:memory:/system.slice\n4:cpu,cpuacct:/\n1:name=systemd:/system.slice/nginx.service\n"
HYBRID = b"9:name=systemd:/\n4:memory:/x/y\n1:cpu:/\n0::/\n"


def test_each_hierarchy_has_its_own_place():
    assert main_place(places_of(V2)) == main_place(places_of(V1 + V2))
    assert main_place(places_of(V1)).path == "/system.slice"
    assert main_place(places_of(HYBRID)).path == "/x/y"
    assert main_place(places_of(b"0::/\n")).path == "/"
    assert main_place([]) is None
    assert memory_place(places_of(V1 + V2)).path == "/system.slice"
    assert memory_place(places_of(V2)).path == "/system.slice/nginx.service"
    assert memory_place(places_of(b"1:cpu:/\n")) is None


def test_a_name_of_any_bytes_is_kept_and_no_line_is_taken_for_another():
    assert places_of(b"0::/a:b\xff\n")[0].path == "/a:b\udcff"
    assert places_of(b"nonsense\n0::\n::\n") == []


# Debian's 7.3.4: one process that touched 8 MiB and wrote 2 MiB into a tmpfs; those of the keys that come first.
STAT_V2 = """\
anon 8392704
file 2097152
kernel 36864
kernel_stack 0
pagetables 16384
sec_pagetables 0
percpu 0
sock 0
vmalloc 0
shmem 2097152
zswap 0
file_mapped 0
inactive_anon 0
active_anon 10477568
slab_reclaimable 8848
slab_unreclaimable 1600
slab 10448
"""
STAT_V1 = """\
cache 1
rss 2
total_cache 8192000
total_rss 1048576
total_shmem 4096
total_mapped_file 2048000
total_swap 0
not a number
"""


def test_counters_of_both_versions_are_told_in_the_same_words():
    two = of_v2("/a", {"memory.current": "10747904\n", "memory.stat": STAT_V2, "memory.swap.current": "0\n"})
    assert two[:] == ("/a", 10747904, 8392704, 2097152, 0, 2097152, 36864, 10448, 0, 0, None)
    assert two.unmapped_file == 2097152
    root = of_v2("/", {"memory.stat": STAT_V2})  # which has no memory.current
    assert (root.current, root.anonymous, root.untold) == (None, 8392704, None)
    one = of_v1("/a", {"memory.usage_in_bytes": "9654272\n", "memory.stat": STAT_V1})
    assert one[:] == ("/a", 9654272, 1048576, 8192000, 2048000, 4096, None, None, None, 0, None)
    assert one.unmapped_file == 8192000 - 2048000


def test_what_is_not_told_is_none_with_a_reason_and_never_nought():
    for told in (of_v2("/a", {}), of_v2("/", {}), of_v1("/a", {})):
        assert set(told[1:-1]) == {None} and told.untold
    assert of_v2("/", {}).untold != of_v2("/a", {}).untold
    assert of_v2("/a", {"memory.current": "max\n", "memory.stat": "anon -1\nfile 1e5\n"}).untold


def test_names_of_containers_are_in_the_files_of_their_managers(tmp_path, monkeypatch):
    docker, containerd, podman = (tmp_path / each for each in ("docker", "containerd", "podman"))
    monkeypatch.setattr(container_names, "DOCKER", (str(docker),))
    monkeypatch.setattr(container_names, "CONTAINERD", (str(containerd),))
    monkeypatch.setattr(container_names, "PODMAN", (str(podman),))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing"))
    assert container_names.names_of([ID]) == {}
    assert "keep none here" in container_names.where_looked()

    write(docker / ID / "config.v2.json", {"ID": ID, "Name": "/web", "Config": {"Image": "nginx"}})
    write(podman / "overlay-containers" / "containers.json", [{"id": OTHER, "names": ["db", 5]}, {"id": 3}, None])
    names = {"io.kubernetes.cri.container-name": "app", "io.kubernetes.cri.sandbox-name": "shop-7d"}
    write(containerd / "k8s.io" / ("e" * 64) / "config.json", {"annotations": names})
    write(containerd / "default" / ID / "config.json", {"annotations": {"nerdctl/name": "front"}})
    assert container_names.names_of([ID, OTHER, "e" * 64]) == {
        ID: ("web", "front"),
        OTHER: ("db",),
        "e" * 64: ("app", "shop-7d/app"),
    }
    assert container_names.names_of([]) == {}
    assert str(docker) in container_names.where_looked()


def test_a_name_that_may_not_be_read_is_not_told_to_be_none(placed, tmp_path, monkeypatch):
    as_no_root(monkeypatch, tmp_path / "docker")
    monkeypatch.setattr(container_names, "DOCKER", (str(tmp_path / "docker" / "containers"),))
    monkeypatch.setattr(container_names, "CONTAINERD", ())
    monkeypatch.setattr(container_names, "PODMAN", ())
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing"))
    placed |= {1: OF_DOCKER, 2: "/lxc/web", 3: "/"}
    for wanted, chosen in (("web", [2]), ("?*", [2]), (ID[:12], [1])):
        found = membership.members(of(placed), "container", wanted, str)
        assert [each.pid for each in found.processes] == chosen
        assert (found.gap is None) == (wanted == ID[:12]), "a number is known"
    with pytest.raises(NoSuchProcess) as nobody:
        membership.members(of(placed), "container", "shop", str)
    told = nobody.value.incomplete
    assert told is not None and f"({ID[:12]}): no right to read" in told and str(tmp_path / "docker") in told
    del placed[1]
    with pytest.raises(NoSuchProcess) as nobody:
        membership.members(of(placed), "container", "shop", str)
    assert nobody.value.incomplete is None, "there is nobody whose name is not known"


def test_a_container_whose_name_nobody_keeps_is_told_with_its_number_and_every_name_fits_any(
    placed, tmp_path, monkeypatch
):
    for manager in ("DOCKER", "CONTAINERD", "PODMAN"):
        monkeypatch.setattr(container_names, manager, (str(tmp_path / manager),))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing"))
    placed |= {1: OF_DOCKER, 2: "/lxc/web", 3: "/"}
    found = membership.members(of(placed), "container", "w*", str)
    assert [each.pid for each in found.processes] == [2]
    assert found.gap is not None and f"1 container is called is not told ({ID[:12]})" in found.gap
    assert "right" not in found.gap and f"container:{ID[:12]}" in found.gap, "root has every right, and sees none"
    everyone = membership.members(of(placed), "container", "*", str)
    assert ([each.pid for each in everyone.processes], everyone.gap) == ([1, 2], None)
    sandbox = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-name": "shop-7d"}
    write(tmp_path / "CONTAINERD" / "moby" / ID / "config.json", {"annotations": {}})
    assert container_names.names_of([ID]) == {}, "docker has its name, in a folder that is not known"
    write(tmp_path / "CONTAINERD" / "k8s.io" / ID / "config.json", {"annotations": sandbox})
    assert container_names.names_of([ID]) == {ID: ()}, "what holds a pod together has no name"
    assert membership.members(of(placed), "container", "w*", str).gap is None


def as_no_root(monkeypatch: pytest.MonkeyPatch, closed: Path) -> None:
    """What lies below a folder may not be looked at."""
    looked = os.stat

    def stat(path: object, *arguments: object, **keywords: object) -> os.stat_result:
        if isinstance(path, str) and path.startswith(str(closed)):
            raise PermissionError(EACCES, os.strerror(EACCES), path)
        return looked(path, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(closed)))


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("bad", [b"", b"{", b"[" * 100_000, b'{"Name": 5}', b'"x"', b"\xff", b"[]", b'{"Name": null}'])
def test_a_file_that_is_none_of_theirs_tells_nothing(tmp_path, monkeypatch, bad):
    monkeypatch.setattr(container_names, "DOCKER", (str(tmp_path),))
    (tmp_path / ID).mkdir()
    (tmp_path / ID / "config.v2.json").write_bytes(bad)
    assert container_names.names_of([ID]) == {}


def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(container_names, "DOCKER", (str(tmp_path),))
    (tmp_path / ID).mkdir()
    os.mkfifo(tmp_path / ID / "config.v2.json")
    (tmp_path / OTHER / "config.v2.json").mkdir(parents=True)
    assert container_names.names_of([ID, OTHER]) == {}


DEEP = "/" + "d" * (cgroups.MOST_TOLD - 1)
"""As the kernel tells of a way that goes on."""


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> dict[int, str | int]:
    """What is told of processes by their numbers: where they are, or an errno."""
    told: dict[int, str | int] = {}

    def places(process: ProcessInfo) -> list[cgroups.Place]:
        path = told[process.pid]
        if isinstance(path, int):
            raise OSError(path, os.strerror(path))
        return places_of(os.fsencode(f"3:cpu:/\n0::{path}\n"))

    monkeypatch.setattr(membership, "_places_of", places)
    return told


def of(told: dict[int, str | int]) -> list[ProcessInfo]:
    return [ProcessInfo(pid=pid, parent=1, name=f"x{pid}", start_time=5) for pid in told]


@pytest.mark.parametrize(("what", "wanted"), [("cgroup", "/a"), ("unit", "a.service"), ("container", "a")])
def test_whose_cgroup_is_not_told_is_not_lost_in_silence(placed: dict[int, str | int], what: str, wanted: str) -> None:
    inside = {"cgroup": "/a/b", "unit": "/x/a.service", "container": "/lxc/a"}[what]
    placed |= {1: inside, 2: ENAMETOOLONG, 3: EACCES, 4: ESRCH, 5: "/"}
    found = membership.members(of(placed), what, wanted, lambda path: path)
    assert [each.pid for each in found.processes] == [1]
    assert found.gap is not None and "2 x2" in found.gap and "3 x3" in found.gap
    assert "x4" not in found.gap and "x5" not in found.gap
    del placed[1]
    with pytest.raises(NoSuchProcess) as nobody:
        membership.members(of(placed), what, wanted, lambda path: path)
    assert nobody.value.incomplete == found.gap
    assert list(membership.cgroups_of(of({2: 0, 4: 0}), what)) == []


OF_DOCKER = f"/system.slice/docker-{ID}.scope"
DELEGATED = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize("wanted", [ID[:12], ID[:6], ID, "web"])
@pytest.mark.parametrize("folder", ["lxc.payload.{0}", "lxc/{0}", "docker-{1}.scope", "machine-{0}.scope"])
def test_nobody_takes_the_place_of_a_container_by_the_name_of_a_cgroup(
    placed: dict[int, str | int], monkeypatch: pytest.MonkeyPatch, wanted: str, folder: str
) -> None:
    monkeypatch.setattr(container_names, "names_of", lambda ids: {each: ("web",) for each in ids if each == ID})
    placed |= {1: OF_DOCKER, 2: f"{OF_DOCKER}/deeper", 3: "/"}
    found = membership.members(of(placed), "container", wanted, str)
    assert ([each.pid for each in found.processes], found.notes) == ([1, 2], ())
    placed[4] = f"{DELEGATED}/{folder.format(wanted, wanted.ljust(64, '0') if wanted != 'web' else ID)}"
    found = membership.members(of(placed), "container", wanted, str)
    assert [each.pid for each in found.processes] == [1, 2, 4]
    (note,) = found.notes
    assert OF_DOCKER in note and placed[4] in note, "both are told, and neither is left out"
    assert membership.members(of(placed), "container", "[w4]*", str).notes == (), "a pattern is for several"


def test_nor_of_a_unit(placed: dict[int, str | int]) -> None:
    placed |= {1: "/system.slice/nginx.service", 2: f"{DELEGATED}/nginx.service", 3: "/system.slice/other.service"}
    found = membership.members(of(placed), "unit", "nginx", str)
    assert [each.pid for each in found.processes] == [1, 2]
    (note,) = found.notes
    assert "'unit:nginx' is 2 cgroups" in note and f"{DELEGATED}/nginx.service" in note
    del placed[2]
    assert membership.members(of(placed), "unit", "nginx", str).notes == ()


def test_a_path_that_is_cut_is_of_what_it_shows_and_perhaps_of_more(placed: dict[int, str | int]) -> None:
    placed |= {1: f"/a.service{DEEP[:-10]}", 2: "/b.service"}
    for what, wanted in (("cgroup", "/a.service"), ("unit", "a")):
        found = membership.members(of(placed), what, wanted, lambda path: path)
        assert ([each.pid for each in found.processes], found.gap) == ([1], None)
    found = membership.members(of(placed), "cgroup", "/b.service", lambda path: path)
    assert ([each.pid for each in found.processes], found.gap) == ([2], None)
    found = membership.members(of(placed), "unit", "b", lambda path: path)
    assert [each.pid for each in found.processes] == [2] and found.gap is not None and "1 x1" in found.gap
    with pytest.raises(NoSuchProcess) as nobody:
        membership.members(of(placed), "cgroup", f"/a.service{DEEP}", lambda path: path)
    assert nobody.value.incomplete is not None and f"{cgroups.MOST_TOLD:,} bytes" in nobody.value.incomplete


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/engine.service", "engine.service"),
        ("/system.slice/engine.service/worker/engine.service", "engine.service"),
        ("/engine.service", "engine.service"),
        ("/init.scope", "init.scope"),
        (r"/system.slice/system-systemd\x2dfsck.slice/systemd-fsck@x.service", "systemd-fsck@x.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/engine.service", "user@1000.service"),
        (f"/system.slice/docker-{ID}.scope/system.slice/engine.service", f"docker-{ID}.scope"),
        ("/user.slice/user-1000.slice", "user-1000.slice"),
        ("/user.slice/mine/engine.service", "user.slice"),
        ("/user.slice/mine.slice/engine.service", "user.slice"),  # systemd has mine.slice below the root
        ("/mine-more.slice/engine.service", None),
        ("/mine/system.slice/engine.service", None),
        ("/../system.slice/engine.service", None),
        (f"/docker/{ID}/system.slice/engine.service", None),
        ("/", None),
    ],
)
def test_a_unit_is_the_system_s_where_systemd_places_it_from_the_root(path: str, unit: str | None) -> None:
    assert cgroups.system_unit(parts_of(path)) == unit
    text = f"2:memory:/user.slice\n1:name=systemd:{path}\n0::{path}\n"
    if unit is not None and not unit.endswith(".slice"):
        assert cgroups.system_unit_in(places_of(text.encode())) == unit
        assert cgroups.system_unit_in(places_of(text.encode() + b"3:cpu:/system.slice/other.service\n")) is None
    told = cgroups.unit_in(places_of(f"0::{path}\n".encode()))
    doubt = membership._doubt_of_unit(_Placed(path))  # type: ignore[arg-type]
    assert (doubt is None) is (told == unit), "what a policy names is the unit of the system's, or in doubt"
    assert doubt is None or legible(path) in doubt


class _Placed:
    def __init__(self, path: str) -> None:
        self._text = f"0::{path}\n".encode()

    def read_file(self, name: str) -> bytes:
        return self._text


def test_what_a_cut_path_belongs_to_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deep:
        def read_file(self, name: str) -> bytes:
            return f"2:cpu:/x\n0::/a.service{DEEP[:-10]}\n".encode()

    for told in (membership.cgroup_of, membership.unit_of, membership.container_of):
        assert told(Deep()) is None  # type: ignore[arg-type]


def test_a_selection_says_whom_it_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.getpid()
    real = membership._places_of

    def places(process: ProcessInfo) -> list[cgroups.Place]:
        return places_of(os.fsencode(f"0::{DEEP}\n")) if process.pid == child else real(process)

    monkeypatch.setattr(membership, "_places_of", places)
    with pytest.raises(NoSuchProcess, match=r"as far as can be seen: .*not told") as nobody:
        select("unit:there is no such unit.service")
    assert nobody.value.incomplete is not None and str(child) in nobody.value.incomplete
    chosen = select(child, "unit:there is no such unit.service")
    assert chosen.incomplete is not None and str(child) in chosen.incomplete
