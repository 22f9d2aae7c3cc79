"""`metrics`: Prometheus' own parser reads them; in a file as a whole, and by HTTP on loopback."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import stat
import sys

import pytest

import vmatlas
from vmatlas import AccessDenied, MemoryUse, ProcessInfo, ProcessMemory, Unanswered
from vmatlas.backend import Listing
from vmatlas.cli.exits import Exit, exit_of, story_of
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import UsageError

prometheus_client = pytest.importorskip("prometheus_client", reason="pip install prometheus-client")

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from vmatlas.metrics import MemoryCollector  # noqa: E402


def samples(text: str) -> dict[tuple[str, frozenset], float]:
    """By name and labels; each series once."""
    found: dict[tuple[str, frozenset], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type == "gauge"
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def test_a_process_has_its_memory_by_kind_to_the_byte(run, child):
    told = samples(run("metrics", child.pid).stdout)
    use = vmatlas.memory(child.pid)
    memory = {dict(labels)["kind"]: value for (name, labels), value in told.items() if name.endswith("memory_bytes")}
    assert memory["resident"] == use.resident and memory["swap"] == use.swapped
    assert set(memory) == {"resident", "pss", "uss", "swap"} and memory["pss"] <= memory["resident"]
    (regions,) = [value for (name, _), value in told.items() if name == "vmatlas_process_regions"]
    assert regions == len(vmatlas.snapshot(child.pid, backend="linux-procfs"))
    (labels,) = [dict(labels) for name, labels in told if name == "vmatlas_process_regions"]
    assert labels["pid"] == str(child.pid) and labels["name"].startswith("python") and labels["user"]
    assert told["vmatlas_read_processes", frozenset()] == 1


def made(pid: int, pss: int | None, error: vmatlas.VmatlasError | None = None, name: str = "x") -> ProcessMemory:
    memory = None if error else MemoryUse(resident=2 * (pss or 0), proportional=pss, swapped=None)
    return ProcessMemory(ProcessInfo(pid=pid, parent=1, name=name, start_time=5), memory, error, 3)


def collected(monkeypatch, found, **how) -> dict[tuple[str, frozenset], float]:
    monkeypatch.setattr("vmatlas.metrics.memories", lambda *_, **__: Listing(iter(found), None))
    registry = prometheus_client.CollectorRegistry()
    registry.register(MemoryCollector(**how))
    return samples(prometheus_client.generate_latest(registry).decode())


def test_what_could_not_be_read_is_a_metric_by_reason(monkeypatch):
    denied, silent = AccessDenied("no"), Unanswered("late")
    told = collected(monkeypatch, [made(1, 10), made(2, None, denied), made(3, None, denied), made(4, None, silent)])
    unread = {dict(labels)["reason"]: value for (name, labels), value in told.items() if "unread" in name}
    assert unread == {"ended": 0, "denied": 2, "torn": 0, "unanswered": 1, "other": 0}


def test_what_is_not_told_has_no_series(monkeypatch):
    told = collected(monkeypatch, [made(1, 10)])
    assert {dict(labels)["kind"] for name, labels in told if name.endswith("memory_bytes")} == {"resident", "pss"}


def test_the_number_of_series_is_bounded_and_the_rest_is_one(monkeypatch):
    told = collected(monkeypatch, [made(pid, pid) for pid in range(1, 101)], top=10)
    pss = {dict(labels)["pid"]: value for (_, labels), value in told.items() if ("kind", "pss") in labels}
    assert len(pss) == 11 and pss["100"] == 100 and pss[""] == sum(range(1, 91))
    assert sum(pss.values()) == sum(range(1, 101))


def test_groups_have_series_that_stay_though_pids_do_not(monkeypatch):
    found = [made(1, 10, name="a"), made(2, 20, name="b"), made(3, 30, name="a"), made(4, 5, name="c")]
    told = collected(monkeypatch, found, by="name", top=2)
    pss = {dict(labels)["group"]: value for (_, labels), value in told.items() if ("kind", "pss") in labels}
    assert pss == {"a": 40, "b": 20, "(others)": 5}
    assert told["vmatlas_group_processes", frozenset({"by": "name", "group": "a"}.items())] == 2


def test_no_name_makes_a_series_twice(monkeypatch):
    """Prometheus refuses all of a scrape that has one twice: a process may call itself as the rest is called."""
    names = ["(others)", "\udcff", "\\udcff", "b", "c"]
    found = [made(number, 100 - number, name=name) for number, name in enumerate(names, 1)]
    told = collected(monkeypatch, found, by="name", top=4)
    pss = {dict(labels)["group"]: value for (_, labels), value in told.items() if ("kind", "pss") in labels}
    assert pss == {"(others)": 99 + 95, "\\udcff": 98 + 97, "b": 96}


def test_a_number_that_was_used_again_meanwhile_is_one_series(monkeypatch):
    told = collected(monkeypatch, [made(7, 10), made(7, 30), made(8, 5)])
    pss = {dict(labels)["pid"]: value for (_, labels), value in told.items() if ("kind", "pss") in labels}
    assert (pss["7"], pss["8"], told["vmatlas_read_processes", frozenset()]) == (30, 5, 2)


def test_a_name_that_is_no_utf8_or_breaks_a_line_is_a_label_all_the_same(monkeypatch):
    told = collected(monkeypatch, [made(1, 10, name='a\n"\\\udcff')])
    (label,) = {dict(labels)["name"] for name, labels in told if name.endswith("memory_bytes")}
    assert label == 'a\n"\\\\udcff'


@pytest.mark.parametrize("how", [{"by": "colour"}, {"top": -1}, {"top": "x"}])
def test_a_collector_of_nothing_is_refused(how):
    with pytest.raises(UsageError):
        MemoryCollector(**how)


def test_a_file_is_replaced_as_a_whole_and_everybody_may_read_it(run, child, tmp_path):
    file = tmp_path / "vmatlas.prom"
    file.write_text("before\n")
    before = os.umask(0o077)
    try:
        done = run("metrics", child.pid, "--textfile", file)
    finally:
        os.umask(before)
    assert (done.exit_code, done.stdout) == (Exit.OK, "")
    assert samples(file.read_text()) and stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["vmatlas.prom"]
    assert run("metrics", child.pid, "--textfile", tmp_path).exit_code == Exit.USAGE
    assert run("metrics", child.pid, "--textfile", tmp_path / "no" / "x.prom").exit_code == Exit.FAILED


def ask(port: int, path: str = "/metrics", host: str = "localhost", method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, headers={"Host": f"{host}:{port}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_are_served_on_loopback_until_sigterm(start, child):
    server = start("metrics", child.pid, "--listen", "0", bufsize=0)
    assert server.stderr is not None
    line = server.stderr.readline().decode()
    assert "served at http://127.0.0.1:" in line
    port = int(line.rpartition(":")[2].partition("/")[0])
    status, text = ask(port)
    assert status == 200 and samples(text)["vmatlas_read_processes", frozenset()] == 1
    assert ask(port, "/secret")[0] == 404
    assert ask(port, method="POST")[0] == 405
    assert ask(port, host="attacker.example")[0] == 403
    child.process.kill()
    child.process.wait()
    status, text = ask(port)
    assert status == 503 and str(child.pid) in text  # and it serves on
    with open(f"/proc/{server.pid}/net/tcp") as file:
        bound = [line.split()[1] for line in file if f":{port:04X} " in line and line.split()[3] == "0A"]
    assert bound == [f"0100007F:{port:04X}"]
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == Exit.TERMINATED


@pytest.mark.parametrize("end", [SystemExit(143), KeyboardInterrupt()])
def test_a_signal_within_an_answer_ends_the_server_and_not_the_answer(end, capfd):
    import socket
    import threading

    from vmatlas.cli import serving

    class Interrupted:
        def collect(self):
            raise end

    registry = prometheus_client.CollectorRegistry()
    registry.register(Interrupted())
    with serving.server_of(registry, "127.0.0.1", 0) as server:

        def client():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.server_port)) as asking:
                asking.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
                asking.recv(10)

        thread = threading.Thread(target=client)
        thread.start()
        with pytest.raises(type(end)):
            server.serve_forever(poll_interval=0.01)
        thread.join(PATIENCE)
    assert "Traceback" not in capfd.readouterr().err


def dripping(slow, drips):
    """A byte now and then, which no limit for each would be an end of; until it is hung up on."""
    slow.settimeout(0.02)
    with contextlib.suppress(ConnectionError):
        while True:
            if drips:
                slow.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                if not slow.recv(4096):
                    return


@pytest.mark.parametrize("says", [b"", b"GET /metrics HTTP/1.0\r\nX: ", b"G"], ids=["nothing", "headers", "a line"])
def test_a_client_that_says_little_holds_nobody_up_for_long(monkeypatch, says):
    import socket
    import threading

    from vmatlas.cli import serving

    monkeypatch.setattr(serving._Handler, "timeout", 0.2)
    registry = prometheus_client.CollectorRegistry()
    with serving.server_of(registry, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with socket.create_connection(("127.0.0.1", server.server_port)) as slow:
                slow.sendall(says)
                drip = threading.Thread(target=dripping, args=(slow, bool(says)))
                drip.start()
                assert ask(server.server_port)[0] == 200
                drip.join(PATIENCE)
                assert not drip.is_alive()
        finally:
            server.shutdown()
            thread.join(PATIENCE)


@pytest.mark.parametrize("options", [[], ["self", "--all"], ["self", "--textfile", "x", "--listen", "1"]])
def test_what_does_not_go_together_is_refused(run, options):
    assert run("metrics", *options).exit_code == Exit.USAGE


def test_without_the_library_it_is_said_what_to_install(monkeypatch, run):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    error = ModuleNotFoundError("no", name="prometheus_client")
    assert exit_of(error) is Exit.UNSUPPORTED
    assert story_of(error)[1] == "pip install prometheus-client"
    done = run("metrics", "self")
    assert done.exit_code == Exit.UNSUPPORTED and "pip install prometheus-client" in done.stderr
