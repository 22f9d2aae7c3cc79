"""Names that a map leaves open are found by going through it once: a process may give each region another."""

from __future__ import annotations

from array import array

from vmatlas.model.columns import Columns, Label, pack_device
from vmatlas.systems.linux.links import OpenName, open_names

NUMBER = 500


class Rows(list):
    """The column of labels, which counts how many of it were looked at."""

    looked_at = 0

    def __iter__(self):
        self.looked_at += len(self)
        return super().__iter__()

    def index(self, value, start=0, *end):
        try:
            found = super().index(value, start, *end)
        except ValueError:
            self.looked_at += len(self) - start
            raise
        self.looked_at += found - start + 1
        return found


def test_as_many_names_as_regions_are_found_in_one_look_at_each():
    starts = [0x1000 * (1 + row) for row in range(2 * NUMBER)]
    columns = Columns(
        start=array("Q", starts),
        end=array("Q", [start + 0x1000 for start in starts]),
        device=array("Q", [pack_device(8, 1)] * 2 * NUMBER),
        inode=array("Q", [row % NUMBER for row in range(2 * NUMBER)]),  # each file is mapped twice
        labels=[Label(f"/srv/{number}", None, True) for number in range(NUMBER)],
    )
    columns.label = rows = Rows(row % NUMBER for row in range(2 * NUMBER))
    found = open_names(columns)
    assert found == [
        OpenName(b"/srv/%d (deleted)" % number, number, (8, 1), starts[number], starts[number] + 0x1000)
        for number in range(NUMBER)
    ]
    assert rows.looked_at == 2 * NUMBER


def test_a_map_without_such_a_name_is_not_looked_through():
    columns = Columns(start=array("Q", [0x1000]), labels=[Label("/srv/x", None, False)])
    columns.label = rows = Rows([0])
    assert not open_names(columns) and not rows.looked_at
