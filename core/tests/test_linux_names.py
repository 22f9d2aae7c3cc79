"""What Linux's names mean, and whose file systems may be asked: on values made by hand."""

from __future__ import annotations

import time

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import MalformedData
from vmatlas.model import Columns, Kind, Region
from vmatlas.systems.linux import links
from vmatlas.systems.linux.files import File, Seen
from vmatlas.systems.linux.mounts import MOST_OF_OTHERS, MountTable, one, read
from vmatlas.systems.linux.naming import tell


def kind_of(name: bytes, *, shared: bool = True, major: int = 0, mounted: bool | None = None) -> tuple[Kind, bool]:
    label, kind = tell(name, protection=3, shared=shared, major=major, has_file=True, mounted=mounted)
    return kind, bool(label.deleted)


@pytest.mark.parametrize("mounted", [None, False])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"/[aio] (deleted)", Kind.SHARED_MEMORY),
        (b"/secretmem (deleted)", Kind.SHARED_MEMORY),
        (b"/[kvm-gmem] (deleted)", Kind.SHARED_MEMORY),
        (b"/what comes next year (deleted)", Kind.SHARED_MEMORY),
        (b"/drm mm object (deleted)", Kind.DEVICE),
        (b"/i915 (deleted)", Kind.DEVICE),
        (b"/dmabuf:camera", Kind.DEVICE),
        (b"/memfd:a/b (deleted)", Kind.SHARED_MEMORY),
        (b"/SYSV00000000 (deleted)", Kind.SHARED_MEMORY),
        (b"/dev/zero (deleted)", Kind.SHARED_MEMORY),
        (b"/dev/ashmem/dalvik-main space (deleted)", Kind.SHARED_MEMORY),
        (b"/dev/__properties__/u:object_r:log_prop:s0", Kind.FILE),
        (b"/anon_hugepage (deleted)", Kind.SHARED_MEMORY),
        (b"//anon_hugepage (deleted)", Kind.SHARED_MEMORY),
    ],
)
def test_an_object_that_never_had_a_name_is_no_file(name: bytes, kind: Kind, mounted: bool | None) -> None:
    assert kind_of(name, mounted=mounted)[0] is kind


@pytest.mark.parametrize("name", [b"/memfd:lib.so (deleted)", b"/[aio] (deleted)", b"/x (deleted)"])
def test_a_file_of_a_mounted_file_system_cannot_take_the_name_of_such_an_object(name: bytes) -> None:
    """The root folder of a container lies on a device with major number 0, too."""
    assert kind_of(name, mounted=True) == (Kind.FILE, True)
    assert kind_of(name, mounted=True, shared=False) == (Kind.FILE, True)
    assert kind_of(name, major=8) == (Kind.FILE, True)


@pytest.mark.parametrize("name", [b"/memfd:x", b"/SYSV0badf00d", b"/anon_hugepage"])
def test_the_kernel_calls_memory_deleted_always_so_what_is_not_is_a_file(name: bytes) -> None:
    assert kind_of(name, shared=False) == (Kind.FILE, False)


def test_what_is_mapped_privately_is_such_an_object_only_by_a_name_that_is_known() -> None:
    assert kind_of(b"/x (deleted)", shared=False) == (Kind.FILE, True)  # code of a lazily unmounted folder, say
    assert kind_of(b"/memfd:x (deleted)", shared=False) == (Kind.SHARED_MEMORY, True)
    assert kind_of(b"/anon_hugepage (deleted)", shared=False) == (Kind.ANONYMOUS, True)


@pytest.mark.parametrize("name", [b"/dev/x.so (deleted)", b"/dev/zero (deleted)", b"/dev/shm/x.so (deleted)"])
def test_code_of_a_deleted_file_does_not_pass_for_a_device_by_lying_in_dev(name: bytes) -> None:
    for shared in (False, True):
        _, kind = tell(name, protection=5, shared=shared, major=0, has_file=True, mounted=True)
        assert kind is Kind.FILE
    assert kind_of(b"/dev/video0 (deleted)") == (Kind.DEVICE, True)
    assert kind_of(b"/dev/video0", shared=False) == (Kind.DEVICE, False)


def test_code_that_is_mapped_shared_is_none_of_the_kernel_s_objects() -> None:
    for name, kind in (
        (b"/x (deleted)", Kind.FILE),
        (b"/[aio] (deleted)", Kind.FILE),
        (b"/i915 (deleted)", Kind.FILE),
        (b"/dmabuf:x (deleted)", Kind.FILE),
    ):
        assert tell(name, protection=5, shared=True, major=0, has_file=True, mounted=False)[1] is kind
        assert tell(name, protection=3, shared=True, major=0, has_file=True, mounted=False)[1] is not Kind.FILE


def test_whether_a_file_whose_name_is_not_told_was_deleted_nobody_can_tell() -> None:
    label, kind = tell(b"", protection=5, shared=False, major=8, has_file=True)
    assert (label.path, label.deleted, kind) == (None, None, Kind.FILE)
    assert tell(b"", protection=3, shared=False, major=0, has_file=False)[0].deleted is False


def test_code_in_a_buffer_of_a_driver_is_one_where_its_device_is_the_kernel_s_own_for_that() -> None:
    for name in (b"/i915 (deleted)", b"/drm mm object (deleted)"):
        assert tell(name, protection=5, shared=True, major=0, has_file=True)[1] is Kind.DEVICE


def test_a_file_in_dev_shm_is_shared_memory_where_it_is_shared() -> None:
    assert kind_of(b"/dev/shm/a") == (Kind.SHARED_MEMORY, False)
    assert kind_of(b"/dev/shm/a (deleted)") == (Kind.SHARED_MEMORY, True)
    assert kind_of(b"/dev/shm/a (deleted)", shared=False) == (Kind.FILE, True)
    assert kind_of(b"/dev/shm/a", shared=False) == (Kind.FILE, False)


def test_memory_of_an_anonymous_inode_is_what_it_is_where_it_has_a_name_of_its_own() -> None:
    assert kind_of(b"anon_inode:[secretmem]")[0] is kind_of(b"/secretmem (deleted)")[0]
    assert kind_of(b"anon_inode:[kvm-gmem]")[0] is kind_of(b"/[kvm-gmem] (deleted)")[0]
    assert kind_of(b"anon_inode:[io_uring]")[0] is Kind.DEVICE


def test_a_device_that_holds_a_file_in_a_folder_is_that_of_a_mounted_file_system() -> None:
    names = [(b"/x (deleted)", 0, 50), (b"/usr/bin/x", 0, 50), (b"/[aio] (deleted)", 0, 17)]
    assert links.NOTHING.seeing(names).mounted == {(0, 50): True}
    assert links.NOTHING.seeing(names[1:2]) is links.NOTHING  # nothing to tell


def test_what_was_settled_travels_in_streams() -> None:
    linked = {(b"/x (deleted)", 7): True, (b"/y (deleted)", 8): None}
    settled = links.Settled(linked, {(0, 50): True, (0, 17): False})
    streams = settled.streams()
    assert streams["links"] == b"17 /x (deleted)\0"
    assert streams["unsettled"] == b"8 /y (deleted)\0"
    assert streams["mounted"] == b"1 0:50\x000 0:17\0"
    assert links.Settled.of(streams) == settled
    assert links.Settled.of({"maps": b""}) == links.NOTHING
    assert not links.NOTHING.streams()
    with pytest.raises(MalformedData, match="mounted"):
        links.Settled.of({"mounted": b"1 0:50"})
    with pytest.raises(MalformedData, match="unsettled"):
        links.Settled.of({"unsettled": b"x /y\0"})


def test_of_a_name_that_nobody_could_settle_it_is_not_told_whether_it_was_unlinked() -> None:
    label, kind = tell(b"/x (deleted)", protection=1, shared=False, major=0, has_file=True, linked=None)
    assert (label.path, label.deleted, kind) == ("/x (deleted)", None, Kind.FILE)
    label, kind = tell(b"/[aio] (deleted)", protection=3, shared=True, major=0, has_file=True, linked=None)
    assert (label.path, label.deleted, kind) == ("/[aio]", True, Kind.SHARED_MEMORY)  # it has no name in any folder


def test_names_are_settled_where_only_the_file_system_can_tell() -> None:
    regions = [
        Region(0x1000, 0x2000, 1, True, 0, (0, 1), 5, "/dev/zero", deleted=True),
        Region(0x2000, 0x3000, 1, False, 0, (8, 1), 6, "/bin/x"),
        Region(0x3000, 0x4000, 1, False, 0, (8, 1), 7, "/bin/x", deleted=True),
        Region(0x4000, 0x5000, 1, False, 0, (8, 1), 7, "/bin/x", deleted=True),
        Region(0x5000, 0x6000, 1, False, 0, (0, 50), 7, "/memfd:x", deleted=True),
    ]
    assert links.open_names(Columns.of(regions)) == [
        links.OpenName(b"/bin/x (deleted)", 7, (8, 1), 0x3000, 0x4000),
        links.OpenName(b"/memfd:x (deleted)", 7, (0, 50), 0x5000, 0x6000),
    ]


TABLE = b"""\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:40 / /mnt/a\\040b rw master:2 propagate_from:1 - fuse.sshfs host: rw,user_id=0
41 27 0:41 / /var/over rw - overlay overlay rw,lowerdir=/opt/low:/opt/lower,upperdir=/opt/up,workdir=/opt/w
42 27 0:42 / /var/under rw - overlay overlay rw,lowerdir=/mnt/a\\040b/low,upperdir=/opt/up,workdir=/opt/w
43 27 0:43 / /srv rw - nfs4 server:/srv rw
no such line
"""


def test_mount_table_tells_who_answers_by_himself() -> None:
    table = MountTable(read(TABLE), [])
    assert [table.answers(each) for each in table.own] == [True, False, True, False, False]
    assert not table.answers(table.mount(99))
    assert table.own[1].point == b"/mnt/a b"
    srv = table.of_device((0, 43))
    assert srv is not None
    assert srv.type == b"nfs4"
    assert table.of_device((0, 99)) is None


def test_a_file_system_that_the_reader_runs_from_is_asked_whatever_it_is() -> None:
    table = MountTable(read(TABLE.replace(b"ext4 /dev/vda", b"nfs server:/root")), [])
    assert table.answers(table.mount(27))


def test_an_overlay_that_only_the_process_sees_is_not_asked() -> None:
    """Its layers are paths of somebody else's, and may lie on anything."""
    table = MountTable(read(TABLE)[:1], read(TABLE)[1:])
    assert not table.answers(table.mount(41))
    assert table.silent([(0, 41), (0, 99), (254, 0)]) == {
        (0, 41): "overlay mounted elsewhere",
        (0, 99): "mounted elsewhere",
    }


def test_one_mount_is_found_in_a_table_without_reading_the_others():
    for mount in read(TABLE):
        assert one(TABLE, mount.number) == mount
    assert one(TABLE, 999999) is None and one(b"", 1) is None
    assert one(TABLE[: TABLE.rindex(b" - ")], read(TABLE)[-1].number) is None, "a table that was cut"


def test_a_table_of_somebody_who_mounts_as_often_as_he_may_costs_little():
    """Under a path of newlines, each of which the kernel writes as four letters."""
    line = b"%d 1 0:41 / /" + b"\\012" * 4000 + b" rw - tmpfs none rw\n"
    table = b"".join(line % number for number in range(100, 350))
    begun = time.process_time()
    found = read(table[:MOST_OF_OTHERS])
    assert len(found) == 250 and found[0].point == b"/" + b"\n" * 4000
    assert time.process_time() - begun < PATIENCE, "4 MB were two seconds when each letter was one call"
    assert one(table, 349) == found[-1]


def test_no_overlay_vouches_for_a_file_of_another_file_system():
    """A process may unmount a folder lazily in which it made a file of any inode, below any path."""
    plain = read(b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n")[0]
    overlay = read(b"21 1 0:40 / / rw - overlay overlay rw,lowerdir=/l\n")[0]
    file = File(0o100755, 1, 7, (8, 1))
    assert Seen(-1, plain, file).is_just((8, 1), 7) and not Seen(-1, plain, file).is_just((8, 1), 8)
    assert Seen(-1, overlay, file).is_of_map((0, 50), 7) and not Seen(-1, overlay, file).is_just((0, 50), 7)
    assert Seen(-1, overlay, file).is_just((0, 40), 7) and not Seen(-1, None, file).is_just((8, 1), 7)
