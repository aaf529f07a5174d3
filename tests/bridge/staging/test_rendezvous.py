from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from bridge.errors import ConfigError, NobodyListening, ProtocolError, VersionMismatch
from bridge.staging.rendezvous import NodeProbe, find, publish, resolve, shares_node, withdraw

ADDRESS = "tcp://127.0.0.1:4711"


def rewrite(path: Path, **changes: object) -> None:
    known = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(known | changes))


def free_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_address_comes_before_the_environment_and_that_before_the_directory(
    tmp_path: Path,
) -> None:
    publish(tmp_path, "tcp://127.0.0.1:3")
    environment = {"HEADRACE_STAGER": "tcp://127.0.0.1:2"}
    assert resolve("tcp://127.0.0.1:1", tmp_path, environment=environment) == "tcp://127.0.0.1:1"
    assert resolve(None, tmp_path, environment=environment) == "tcp://127.0.0.1:2"
    assert resolve(None, tmp_path, environment={}) == "tcp://127.0.0.1:3"


def test_the_environment_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_STAGER", ADDRESS)
    assert resolve() == ADDRESS


def test_what_was_published_is_found(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "new"
    path = publish(directory, ADDRESS, public_key="k" * 40)
    found = find(None, directory, environment={})
    assert (found.address, found.public_key, found.pid) == (ADDRESS, "k" * 40, os.getpid())
    assert [entry.name for entry in directory.iterdir()] == [path.name] == ["stager.json"]


def test_waiting_ends_when_the_stager_appears(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(resolve(None, directory, timeout=30, environment={}))
    )
    thread.start()
    publish(directory, ADDRESS)
    thread.join()
    assert found == [ADDRESS]


def test_the_time_limit_says_for_what_and_how_long(tmp_path: Path) -> None:
    with pytest.raises(NobodyListening) as caught:
        find(None, tmp_path, timeout=0.06, environment={})
    assert str(caught.value) == (
        f"Waited 0.06 s for a stager to write {tmp_path}/stager.json; start one with "
        f"`headrace stage`, or check that both use the same run directory."
    )


def test_what_a_dead_stager_left_behind_does_not_count(tmp_path: Path) -> None:
    pid = free_pid()
    rewrite(publish(tmp_path, ADDRESS), pid=pid)
    with pytest.raises(NobodyListening, match=f"left behind by process {pid}, which has ended; "):
        find(None, tmp_path, timeout=0, environment={})


def test_a_pid_of_another_name_space_says_nothing(tmp_path: Path) -> None:
    path = publish(tmp_path, ADDRESS)
    boot = find(None, tmp_path, environment={}).node.partition(" ")[0]
    rewrite(path, pid=free_pid(), node=f"{boot} pid:[1]")
    assert resolve(None, tmp_path, timeout=0, environment={}) == ADDRESS


@pytest.mark.parametrize("address", [ADDRESS, "tcp://[::1]:1", "ipc:///tmp/stager"])
def test_a_local_address_of_another_machine_is_refused(tmp_path: Path, address: str) -> None:
    rewrite(publish(tmp_path, address), host="node17", node="another pid:[1]")
    with pytest.raises(ConfigError, match=r"runs on node17 and listens at .*, with keys\."):
        find(None, tmp_path, environment={})


def test_an_address_of_the_network_is_taken_from_another_machine(tmp_path: Path) -> None:
    address = "tcp://node17:5555"
    rewrite(publish(tmp_path, address), host="node17", node="another pid:[1]")
    assert resolve(None, tmp_path, environment={}) == address


def test_nothing_to_go_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_STAGER", raising=False)
    with pytest.raises(ConfigError, match=r"Nobody said where the stager is; .* HEADRACE_STAGER"):
        find()


def test_an_environment_that_is_no_address() -> None:
    with pytest.raises(ConfigError, match="HEADRACE_STAGER is 'node17:5555', which is no address"):
        find(environment={"HEADRACE_STAGER": "node17:5555"})


def test_another_version_is_named(tmp_path: Path) -> None:
    rewrite(publish(tmp_path, ADDRESS), version=99)
    with pytest.raises(VersionMismatch, match="speaks protocol version 99"):
        find(None, tmp_path, environment={})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 3}', "\udcff"])
def test_a_file_of_somebody_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "stager.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ProtocolError, match="was not written by a stager"):
        find(None, tmp_path, environment={})


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Cannot read .*: Not a directory\."):
        find(None, tmp_path / "file", environment={})


def test_a_stager_withdraws_its_own_file_only(tmp_path: Path) -> None:
    path = publish(tmp_path, ADDRESS)
    withdraw(tmp_path, "tcp://127.0.0.1:1")
    assert path.exists()
    withdraw(tmp_path, ADDRESS)
    assert not path.exists()
    withdraw(tmp_path, ADDRESS)


def test_a_probe_is_recognised_until_it_is_removed(tmp_path: Path) -> None:
    probe = NodeProbe.create(tmp_path)
    assert probe.path.stat().st_mode & 0o777 == 0o600
    assert shares_node(str(probe.path), probe.nonce)
    assert not shares_node(str(probe.path), "0" * 32)
    probe.remove()
    assert not shares_node(str(probe.path), probe.nonce)
    probe.remove()


def test_a_probe_is_recognised_in_another_process(tmp_path: Path) -> None:
    probe = NodeProbe.create(tmp_path)
    code = (
        "import sys\n"
        "from bridge.staging.rendezvous import shares_node\n"
        "print(shares_node(*sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(probe.path), probe.nonce]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"True\n"


def test_a_probe_of_another_system_is_not_recognised(tmp_path: Path) -> None:
    probe = NodeProbe.create(tmp_path)
    probe.path.write_text(f"{probe.nonce} another")
    assert not shares_node(probe.path, probe.nonce)


def test_a_path_that_is_no_file_is_no_probe(tmp_path: Path) -> None:
    probe = NodeProbe.create(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(probe.path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (link, fifo, tmp_path, "\0", "/dev/null"):
        assert not shares_node(path, probe.nonce)
