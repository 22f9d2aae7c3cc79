"""Which hosts there are: our own form, Ansible's list, lines; what is wrong is told with where it stands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vmatlas.errors import Unsupported, UsageError
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.inventory import Inventory, of_lines, of_mapping, read

OURS = """
hosts:
  web-1: ssh:root@10.0.0.1
  web-2:
  board-7: {target: "tcp:board7:4000", labels: {site: vienna, rack: 4}}
groups:
  web: [web-1, web-2, web-3]
  boards: {hosts: [board-7], labels: {site: graz, kind: board}}
  all-ours: {groups: [web, boards], labels: {owner: ops}}
"""


def read_text(tmp_path: Path, text: str) -> Inventory:
    file = tmp_path / "inventory.yaml"
    file.write_text(text)
    return read(str(file))


def test_hosts_groups_and_labels_are_read(tmp_path):
    hosts = {host.name: host for host in read_text(tmp_path, OURS).hosts}
    assert {name: host.target for name, host in hosts.items()} == {
        "web-1": "ssh:root@10.0.0.1",
        "web-2": "ssh:web-2",
        "board-7": "tcp:board7:4000",
        "web-3": "ssh:web-3",
    }
    assert hosts["web-3"].groups == ("all-ours", "web")
    assert hosts["board-7"].labels == {"owner": "ops", "site": "vienna", "kind": "board", "rack": "4"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hosts: {a: {x: 1}}", "host 'a': 'x' is unknown"),
        ("hosts: {a: 'http://x'}", "host 'a': its target is none"),
        ("hosts: {a: }\nhosts: {b: }", "'hosts' stands there twice"),
        ("hosts:\n  a:\n  b:\n  a:", "line 4: no YAML: 'a' stands there twice"),
        ("hosts: [a, a]", "'a' twice"),
        ("groups: {g: {groups: [h]}}", "group 'g': there is no group 'h'"),
        ("groups: {g: {groups: [h]}, h: {groups: [i]}, i: {groups: [g]}}", "a group holds itself"),
        ("groups: {g: {groups: [g], hosts: [a]}}", "a group holds itself"),
        ("all: {hosts: {a: }}", "Ansible's own form"),
        ("hosts: {a: 1", ", line "),
        ("- a", "no inventory"),
        ("hosts: {on: }", "no name"),
        ('hosts: {"a\\nb": }', "no name"),
        (f"hosts: {{{'x' * 121}: }}", "no name"),
        ("hosts: {}", "no host in it"),
        ("", "no inventory"),
        ("hosts: &a {b: *a}", "line 1: no YAML: no value called 'a' ends before"),
        ("hosts: {a: {labels: {b: [1]}}}", "labels are words"),
        ("{" * 100_000, "nest"),
        ("[" * 100_000, "nest"),
        ("a: !!python/object:os.system {}", "a tag that is written out"),
    ],
)
def test_what_is_no_inventory_is_told_in_a_line_with_its_place(tmp_path, text, words):
    with pytest.raises(UsageError) as told:
        read_text(tmp_path, text)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_lines_are_targets_with_or_without_a_name():
    found = of_lines("# ours\nssh:root@web1\nbox agent:docker exec -i box vmatlas-agent\n\ntcp:b:4\nlocal\n", "x").hosts
    assert [(host.name, host.target) for host in found] == [
        ("web1", "ssh:root@web1"),
        ("box", "agent:docker exec -i box vmatlas-agent"),
        ("b:4", "tcp:b:4"),
        ("local", "local"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh:a\nhello", "line 2: 'hello' is no target"),
        ("ssh:a\nssh:b@a", "line 2: a second host 'a'"),
        ("agent:docker exec box agent", "line 1: a command has no name"),
        ("\n \n", "no host"),
    ],
)
def test_a_line_that_is_no_host_is_told_with_its_number(text, words):
    with pytest.raises(UsageError, match=words):
        of_lines(text, "standard input")


ANSIBLE = {
    "_meta": {
        "hostvars": {
            "web1": {
                "ansible_host": "10.0.0.1",
                "ansible_user": "root",
                "ansible_port": 2222,
                "ansible_password": "s3c",
            },
            "six": {"ansible_host": "fe80::1", "ansible_port": 22},
            "box": {"ansible_connection": "docker"},
            "here": {"ansible_connection": "local"},
            "ours": {"vmatlas_target": "tcp:b:4000"},
            "later": {"ansible_host": "{{ address }}"},
        }
    },
    "all": {"children": ["ungrouped", "web"]},
    "web": {"hosts": ["web1", "plain"]},
}


def test_ansibles_list_gives_hosts_their_targets_and_groups_and_keeps_no_variable():
    hosts = {host.name: host for host in of_mapping(ANSIBLE, "x").hosts}
    assert {name: host.target for name, host in hosts.items()} == {
        "web1": "ssh:root@10.0.0.1:2222",
        "six": "ssh:[fe80::1]:22",
        "plain": "ssh:plain",
        "box": "",
        "here": "local",
        "ours": "tcp:b:4000",
        "later": "",
    }
    assert hosts["web1"].groups == ("all", "web")
    assert "docker" in hosts["box"].problem and "template" in hosts["later"].problem
    assert "s3c" not in repr(hosts)


@pytest.mark.parametrize(
    "told",
    [
        {"_meta": 1},
        {"_meta": {"hostvars": []}},
        {"_meta": {"hostvars": {}}, "g": {"hosts": {"a": 1}}},
        {"_meta": {"hostvars": {}}, "g": {"children": ["h"]}, "h": {"children": ["g"]}},
        {"_meta": {"hostvars": {}}},
    ],
)
def test_what_is_not_ansibles_list_is_refused(told):
    with pytest.raises(UsageError):
        of_mapping(told, "x")


def test_ansible_itself_is_asked_where_it_is_installed_and_never_by_a_shell(tmp_path, monkeypatch):
    program = tmp_path / "ansible-inventory"
    program.write_text('#!/bin/sh\necho "$@" > "$0.asked"\ncat "$0.json"\n')
    program.chmod(0o755)
    (tmp_path / "ansible-inventory.json").write_text(json.dumps(ANSIBLE))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert len(read("ansible:x; touch y").hosts) == 7
    assert (tmp_path / "ansible-inventory.asked").read_text() == "-i x; touch y --list\n"
    program.write_text("#!/bin/sh\necho no such inventory >&2\nexit 4\n")
    with pytest.raises(UsageError, match="could not list 'x': no such inventory"):
        read("ansible:x")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(Unsupported, match="no ansible-inventory"):
        read("ansible:x")


def test_hosts_are_chosen_by_name_and_by_group(tmp_path):
    found = read_text(tmp_path, OURS)
    assert [host.name for host in found.limited(["web-?"]).hosts] == ["web-1", "web-2", "web-3"]
    assert [host.name for host in found.limited(["boards", "web-1"]).hosts] == ["web-1", "board-7"]
    with pytest.raises(UsageError, match="fits no host"):
        found.limited(["web-?", "x"])


def test_what_an_inventory_alone_may_know_is_taken_out_of_texts():
    host = Host("box", "agent:sshpass -p hunter2 ssh root@secret.example --token=t0ken")
    said = host.clean(
        "'agent:sshpass -p hunter2 ssh root@secret.example --token=t0ken': hunter2, t0ken, sshpass failed"
    )
    assert not {"hunter2", "t0ken", "secret.example"} & set(said.replace("'", " ").replace(",", " ").split())
    assert "sshpass failed" in said
    assert "hunter2" not in repr(host)


def test_the_command_shows_hosts_and_no_url(run, tmp_path):
    (tmp_path / "i.yaml").write_text(OURS)
    result = run("fleet", "hosts", tmp_path / "i.yaml")
    assert result.exit_code == 0 and "web-1" in result.stdout and "10.0.0.1" not in result.stdout
    result = run("fleet", "hosts", "-", "--json", input=json.dumps(ANSIBLE))
    assert result.exit_code == 7 and "2 hosts cannot be asked" in result.stderr
    assert {each["name"]: each["scheme"] for each in json.loads(result.stdout)}["web1"] == "ssh"
    result = run("fleet", "hosts", tmp_path / "nothing")
    assert result.exit_code == 9


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_an_inventory_that_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, run, kind):
    path = tmp_path / "inventory"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for command in (("fleet", "hosts", path), ("fleet", "record", path, "--to", tmp_path / "atlas")):
        told = run(*command)
        assert told.exit_code == 2 and f"{path} is no regular file" in told.stderr
