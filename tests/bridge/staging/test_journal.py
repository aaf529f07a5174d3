"""The journal: whatever byte it ends at, what was appended before is there again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import CorruptSegment, MessageTooLarge, StorageFull, VersionMismatch
from bridge.staging import journal as module
from bridge.staging.journal import Journal

HEADER = 16
OVERHEAD = 12

some_records = st.lists(st.binary(max_size=24), min_size=1, max_size=5)


def replay(path: Path) -> list[bytes]:
    with Journal(path) as journal:
        return journal.replay()


def ends_of(records: list[bytes]) -> list[int]:
    """Return where each record of a journal ends."""
    ends = [HEADER]
    for record in records:
        ends.append(ends[-1] + OVERHEAD + len(record))
    return ends[1:]


def make(path: Path, records: list[bytes]) -> bytes:
    path.unlink(missing_ok=True)
    with Journal(path) as journal:
        journal.append_many(records)
        assert journal.size == ends_of([b"", *records])[-1] - OVERHEAD
    return path.read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal") / "journal"


def test_the_bytes_on_the_disk_are_these(tmp_path: Path) -> None:
    assert make(tmp_path / "journal", [b"headrace", b""]) == bytes.fromhex(
        "48524a4f55524e4c0100000000000000"
        "ff48520a080000009634a31b6865616472616365"
        "ff48520a00000000249e6330"
    )


def test_a_new_journal_is_empty_and_private(tmp_path: Path) -> None:
    assert replay(tmp_path / "journal") == []
    assert stat.S_IMODE(os.stat(tmp_path / "journal").st_mode) == 0o600


def test_records_come_back_in_their_order(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        assert journal.replay() == []
        journal.append(b"one")
        journal.append_many([bytearray(b"two"), memoryview(b"three"), b""])
        journal.append_many([])
        journal.sync()
    assert replay(tmp_path / "journal") == [b"one", b"two", b"three", b""]


def test_appending_without_a_replay_keeps_what_is_there(tmp_path: Path) -> None:
    make(tmp_path / "journal", [b"one"])
    with Journal(tmp_path / "journal") as journal:
        journal.append(b"two")
    assert replay(tmp_path / "journal") == [b"one", b"two"]


@settings(max_examples=20, deadline=None)
@given(records=some_records)
def test_cut_at_any_byte_the_whole_records_remain(path: Path, records: list[bytes]) -> None:
    whole = make(path, records)
    ends = ends_of(records)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        kept = records[: sum(end <= cut for end in ends)]
        with Journal(path) as journal:
            assert journal.replay() == kept
            journal.append(b"more")
        assert replay(path) == [*kept, b"more"]


@settings(max_examples=20, deadline=None)
@given(records=some_records, flip=st.integers(1, 255))
def test_no_byte_can_change_unseen(path: Path, records: list[bytes], flip: int) -> None:
    whole = make(path, records)
    ends = ends_of(records)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= flip
        path.write_bytes(changed)
        index = sum(end <= position for end in ends)
        if 8 <= position < 12:
            with pytest.raises(VersionMismatch, match=r"is of format version \d+; .* version 1\."):
                Journal(path)
        elif position < HEADER:
            with pytest.raises(CorruptSegment, match=r"does not begin as a journal .*position 0"):
                Journal(path)
        elif index == len(records) - 1:
            assert replay(path) == records[:-1]
        else:
            begin = [HEADER, *ends][index]
            with pytest.raises(CorruptSegment) as caught:
                replay(path)
            assert f"The journal {path} is damaged: " in str(caught.value)
            assert f"position {begin} does not match its checksum" in str(caught.value)
            assert path.read_bytes() == changed


@settings(max_examples=50, deadline=None)
@given(records=some_records, tail=st.binary(max_size=60))
def test_rubbish_behind_the_last_record_is_cut_off(
    path: Path, records: list[bytes], tail: bytes
) -> None:
    whole = make(path, records)
    path.write_bytes(whole + tail)
    assert replay(path) == records
    assert path.read_bytes() == whole


@pytest.mark.parametrize("zeros", [1, 12, 4096])
def test_a_tail_of_zeros_is_cut_off(tmp_path: Path, zeros: int) -> None:
    # So a file may end after a power failure: made longer, but not written.
    whole = make(tmp_path / "journal", [b"one"])
    (tmp_path / "journal").write_bytes(whole + bytes(zeros))
    assert replay(tmp_path / "journal") == [b"one"]


def test_a_torn_record_that_holds_a_journal_is_no_damage(tmp_path: Path) -> None:
    inner = make(tmp_path / "inner", [b"valid", b"in its own place"])
    whole = make(tmp_path / "outer", [b"first", inner])
    (tmp_path / "outer").write_bytes(whole[:-1])
    assert replay(tmp_path / "outer") == [b"first"]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"notes")
    with pytest.raises(CorruptSegment, match="a file of something else"):
        Journal(tmp_path / "journal")
    assert (tmp_path / "journal").read_bytes() == b"notes"


def test_a_rewrite_takes_the_place_of_everything(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.append_many([b"old"] * 9)
        journal.rewrite(iter([b"new", b"state"]))
        journal.append(b"more")
        assert journal.size == (tmp_path / "journal").stat().st_size
    assert replay(tmp_path / "journal") == [b"new", b"state", b"more"]
    assert os.listdir(tmp_path) == ["journal"]


def test_a_rewrite_that_was_killed_leaves_the_old_records(tmp_path: Path) -> None:
    make(tmp_path / "journal", [b"old"])
    (tmp_path / "journal.new").write_bytes(b"HRJOUR")
    assert replay(tmp_path / "journal") == [b"old"]
    assert os.listdir(tmp_path) == ["journal"]


def test_a_record_over_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RECORD_BYTES", 8)
    with Journal(tmp_path / "journal") as journal:
        with pytest.raises(MessageTooLarge, match="at most 8 bytes; 9 came"):
            journal.append_many([b"fits", b"fits not."])
        journal.append(b"fits")
    assert replay(tmp_path / "journal") == [b"fits"]


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.close()
    journal.close()


def test_a_full_disk_leaves_whole_records_alone(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    records: list[bytes] = []
    with Journal(small_disk / "journal") as journal:

        def fill() -> None:
            while True:
                record = len(records).to_bytes(4, "little") * 2000
                journal.append(record)
                records.append(record)

        with pytest.raises(StorageFull, match=r"cannot take \d+ bytes more: no space left") as e:
            fill()
        assert str(small_disk / "journal") in str(e.value)
        assert str(e.value).endswith(".")
        assert len(records) > 10
        with pytest.raises(StorageFull, match="cannot be written anew"):
            journal.rewrite(records)
        assert replay(small_disk / "journal") == records
        ballast.unlink()
        journal.append_many([b"more", bytes(50_000)])
    assert replay(small_disk / "journal") == [*records, b"more", bytes(50_000)]


def test_a_limit_on_file_sizes_is_a_full_disk(tmp_path: Path) -> None:
    # Needs no privileges, other than `small_disk`; and the system takes a part of the write.
    code = """
import resource, sys
from pathlib import Path
from bridge.errors import StorageFull
from bridge.staging.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    journal.append(b"before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        journal.append_many([b"many", bytes(20_000)])
    except StorageFull as error:
        print(error, Path(sys.argv[1]).stat().st_size == journal.size)
    try:
        journal.rewrite([bytes(20_000)])
    except StorageFull as error:
        print(error)
    journal.append(b"after")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "journal")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert "cannot take 20028 bytes more: file too large; " in first
    assert first.endswith(" True")
    assert "cannot be written anew with 20028 bytes: file too large; " in second
    assert os.listdir(tmp_path) == ["journal"]
    assert replay(tmp_path / "journal") == [b"before", b"after"]


def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from bridge.staging.journal import Journal
journal = Journal(Path(sys.argv[1]))
number = 0
while True:
    journal.append_many([b"%d" % (number + k) for k in range(50)])
    number += 50
    print(number, flush=True)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "journal")], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        try:
            while int(writer.stdout.readline()) < 5000:
                pass
        finally:
            writer.kill()
        acknowledged = max(int(line) for line in ["5000", *writer.stdout.read().split()])
    records = replay(tmp_path / "journal")
    assert records == [b"%d" % k for k in range(len(records))]
    assert len(records) >= acknowledged
