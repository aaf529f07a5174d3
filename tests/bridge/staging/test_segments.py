"""The store of segments: recycled files, limits, full disks, recovery."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.errors import CorruptSegment, StagingError, StorageFull
from bridge.staging.segments import Segment, SegmentMap, SegmentStore

SIZE = 8192


@pytest.fixture
def store(tmp_path: Path) -> SegmentStore:
    return SegmentStore(tmp_path / "segments", limit=4 * SIZE)


def names_in(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name.endswith(".segment"))


def inode(segment: Segment) -> int:
    return segment.path.stat().st_ino


def test_only_this_user_may_look_inside(store: SegmentStore) -> None:
    segment = store.take(SIZE)
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    for path in store.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert segment.path == store.directory / "0000000000.segment"
    assert segment.path.stat().st_size == SIZE
    # The space is taken, not only promised.
    assert segment.path.stat().st_blocks * 512 >= SIZE


def test_what_is_written_is_in_the_file(store: SegmentStore) -> None:
    segment = store.take(SIZE)
    assert not segment.view.readonly
    assert len(segment.view) == SIZE
    segment.view[10:14] = b"abcd"
    segment.sync()
    assert segment.path.read_bytes()[10:14] == b"abcd"


def test_a_recycled_segment_keeps_its_file_and_its_mapping(store: SegmentStore) -> None:
    segment = store.take(SIZE)
    before, number, file = segment.view, segment.number, inode(segment)
    reader = SegmentMap().get(segment.path, SIZE)
    store.give_back(segment, reuse=True)
    assert (store.allocated, store.pooled) == (SIZE, SIZE)
    again = store.take(SIZE)
    assert (store.allocated, store.pooled) == (SIZE, 0)
    assert again.view is before
    assert (again.number, inode(again)) == (number, file)
    again.view[:3] = b"new"
    assert bytes(reader[:3]) == b"new"


def test_the_pool_gives_only_the_right_size_and_the_warmest_first(store: SegmentStore) -> None:
    small, first, second = store.take(100), store.take(SIZE), store.take(SIZE)
    for segment in (first, second, small):
        store.give_back(segment, reuse=True)
    assert store.take(SIZE) is second
    assert store.take(SIZE) is first
    assert store.take(200).number == 3
    assert store.take(100) is small


def test_a_file_that_is_removed_stays_readable_for_those_who_have_it(store: SegmentStore) -> None:
    segment = store.take(SIZE)
    array = np.frombuffer(segment.view, np.uint8)
    reader = SegmentMap().get(segment.path, SIZE)
    segment.view[:] = b"x" * SIZE
    store.give_back(segment, reuse=False)
    assert not segment.path.exists()
    assert store.allocated == 0
    store.close(remove=True)
    assert bytes(reader) == b"x" * SIZE
    assert (array == ord("x")).all()
    array[0] = 0
    assert reader[0] == 0


def test_closing_a_segment_leaves_views_alone_and_a_later_one_is_mapped_anew(
    store: SegmentStore,
) -> None:
    segment = store.take(SIZE)
    before = segment.view[5:8]
    segment.close()
    segment.close()
    before[:] = b"abc"
    assert bytes(segment.view[5:8]) == b"abc"


def test_the_pool_makes_room_when_the_limit_is_near(store: SegmentStore) -> None:
    segments = [store.take(SIZE) for _ in range(4)]
    for segment in segments[:3]:
        store.give_back(segment, reuse=True)
    large = store.take(2 * SIZE)
    # The one that waited longest had to go, and the next; the warmest stayed.
    assert store.allocated == 4 * SIZE
    assert names_in(store.directory) == [s.path.name for s in (segments[2], segments[3], large)]


def test_over_the_limit_is_an_error_that_tells_the_sizes(store: SegmentStore) -> None:
    kept = [store.take(SIZE) for _ in range(3)]
    with pytest.raises(StorageFull) as caught:
        store.take(SIZE + 1)
    sentence = str(caught.value)
    assert sentence.startswith(f"The segments in {store.directory} have {3 * SIZE} bytes")
    assert f"may have {4 * SIZE}: another of {SIZE + 1} bytes is over the limit." in sentence
    kept.append(store.take(SIZE))
    assert store.allocated == 4 * SIZE


def test_numbers_are_never_used_again(store: SegmentStore) -> None:
    for number in range(3):
        segment = store.take(SIZE)
        assert segment.number == number
        store.give_back(segment, reuse=False)
    store.close(remove=False)
    assert names_in(store.directory) == []
    # Clients may have 2 mapped still: its name must not come back with another file behind it.
    again = SegmentStore(store.directory, limit=SIZE)
    assert again.take(SIZE).number > 2


def test_numbers_go_on_behind_the_files_if_their_own_file_is_lost(tmp_path: Path) -> None:
    (tmp_path / "0000000007.segment").write_bytes(b"")
    (tmp_path / "numbers").write_bytes(b"rubbish")
    assert SegmentStore(tmp_path, limit=SIZE).take(1).number == 8


def test_giving_back_twice_is_an_error(store: SegmentStore, tmp_path: Path) -> None:
    segment = store.take(SIZE)
    other = SegmentStore(tmp_path / "other", limit=SIZE)
    with pytest.raises(ValueError, match="of another store"):
        other.give_back(segment, reuse=False)
    store.give_back(segment, reuse=True)
    with pytest.raises(ValueError, match="given back already"):
        store.give_back(segment, reuse=True)
    with pytest.raises(ValueError, match="at least one byte; 0"):
        store.take(0)


def test_recovery_takes_up_what_is_kept_and_sweeps_the_rest(store: SegmentStore) -> None:
    kept, lost, cut = (store.take(SIZE) for _ in range(3))
    kept.view[:4] = b"kept"
    os.truncate(cut.path, SIZE - 1)
    lost.path.unlink()
    store.close(remove=False)

    again = SegmentStore(store.directory, limit=SIZE)
    adopted = again.adopt(kept.number, SIZE)
    assert bytes(adopted.view[:4]) == b"kept"
    assert again.allocated == SIZE
    with pytest.raises(ValueError, match="is in use already"):
        again.adopt(kept.number, SIZE)
    with pytest.raises(CorruptSegment, match=rf"{lost.path}, .* {SIZE} bytes, is missing\."):
        again.adopt(lost.number, SIZE)
    with pytest.raises(CorruptSegment, match=rf"{cut.path} has {SIZE - 1} bytes where {SIZE} "):
        again.adopt(cut.number, SIZE)
    assert again.sweep({cut.number}) == 0
    assert again.sweep(set()) == 1
    assert names_in(again.directory) == [kept.path.name]


def test_closing_removes_everything_or_nothing_but_the_pool(tmp_path: Path) -> None:
    directory = tmp_path / "segments"
    store = SegmentStore(directory, limit=4 * SIZE)
    kept, pooled = store.take(SIZE), store.take(SIZE)
    store.give_back(pooled, reuse=True)
    store.close(remove=False)
    store.close(remove=True)
    assert names_in(directory) == [kept.path.name]
    store = SegmentStore(directory, limit=4 * SIZE)
    store.sweep(set())
    store.take(SIZE)
    store.close(remove=True)
    assert not directory.exists()


def test_closing_leaves_what_is_not_ours(store: SegmentStore) -> None:
    (store.directory / "notes").write_text("mine", encoding="utf-8")
    store.take(SIZE)
    store.close(remove=True)
    assert os.listdir(store.directory) == ["notes"]


def test_one_folder_has_one_store(store: SegmentStore) -> None:
    with pytest.raises(StagingError) as caught:
        SegmentStore(store.directory, limit=SIZE)
    assert str(caught.value).startswith(f"The directory {store.directory} belongs to another ")
    assert f"(process {os.getpid()})" in str(caught.value)
    store.close(remove=False)
    SegmentStore(store.directory, limit=SIZE).close(remove=True)


def test_a_folder_that_was_removed_is_told(store: SegmentStore) -> None:
    segment = store.take(SIZE)
    for path in store.directory.iterdir():
        path.unlink()
    store.directory.rmdir()
    with pytest.raises(StagingError, match="is gone: somebody removed it"):
        store.take(SIZE)
    with pytest.raises(CorruptSegment, match="does not exist"):
        _ = segment.view
    store.close(remove=True)


def test_a_full_disk_is_an_error_and_never_a_bus_error(small_disk: Path) -> None:
    store = SegmentStore(small_disk / "segments", limit=1 << 30)
    segments: list[Segment] = []

    def fill() -> None:
        while True:
            segments.append(store.take(40_000))

    with pytest.raises(StorageFull) as caught:
        fill()
    sentence = str(caught.value)
    assert f"A segment of 40000 bytes cannot be made in {store.directory}: no space " in sentence
    assert f", {40_000 * len(segments)} are in segments already. Free some space, " in sentence
    assert len(segments) > 3
    # What was given can be written to the last byte, though nothing is free any more.
    (small_disk / "ballast").touch()
    for segment in segments:
        np.frombuffer(segment.view, np.uint8)[:] = 1
    assert names_in(store.directory) == [segment.path.name for segment in segments]
    # The pool gives way to a segment of another size.
    store.give_back(segments[0], reuse=True)
    store.give_back(segments[1], reuse=True)
    assert store.take(60_000).size == 60_000
    assert store.allocated == 40_000 * (len(segments) - 2) + 60_000
    store.close(remove=True)


@pytest.mark.parametrize("parent", ["/dev/shm", tempfile.gettempdir()])
def test_a_limit_on_file_sizes_is_a_full_disk(parent: str) -> None:
    # Needs no privileges, other than `small_disk`.
    code = """
import os, resource, sys, tempfile
from pathlib import Path
from bridge.errors import StorageFull
from bridge.staging.segments import SegmentStore
with tempfile.TemporaryDirectory(dir=sys.argv[1]) as name:
    store = SegmentStore(Path(name), limit=1 << 20)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        store.take(20_000)
    except StorageFull as error:
        print(error)
    print(sorted(os.listdir(name)), store.take(5_000).number)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, parent], capture_output=True, text=True, timeout=60, check=True
    )
    first, second = done.stdout.splitlines()
    assert "A segment of 20000 bytes cannot be made in " in first
    assert ": file too large; " in first
    assert second == "['numbers', 'owner'] 0"


@pytest.mark.parametrize("parent", ["/dev/shm", tempfile.gettempdir()])
def test_two_processes_see_what_the_other_writes(parent: str) -> None:
    code = """
import sys
from bridge.staging.segment_map import SegmentMap
views = SegmentMap()
path, size = sys.argv[1], int(sys.argv[2])
writer, reader = views.get(path, size, write=True), views.get(path, size)
for line in sys.stdin:
    position = int(line)
    print(bytes(reader[position:position + 4]).decode(), flush=True)
    writer[position + 4:position + 8] = b"pong"
    print("written", flush=True)
"""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        store = SegmentStore(Path(name), limit=SIZE)
        segment = store.take(SIZE)
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(segment.path), str(SIZE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            for position in (0, 4096, SIZE - 8):
                segment.view[position : position + 4] = b"ping"
                child.stdin.write(f"{position}\n")
                child.stdin.flush()
                assert child.stdout.readline() == "ping\n"
                assert child.stdout.readline() == "written\n"
                assert bytes(segment.view[position : position + 8]) == b"pingpong"
            child.stdin.close()
        assert child.returncode == 0
        store.close(remove=False)


class StoreMachine(RuleBasedStateMachine):
    """Any order of taking, giving back and starting again, against a dictionary."""

    LIMIT = 10_000

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.store = SegmentStore(self.path, limit=self.LIMIT)
        self.used: dict[int, tuple[Segment, int]] = {}
        self.gone: set[int] = set()
        self.stamp = 0

    @rule(size=st.sampled_from([1000, 3000, 4096]))
    def take(self, size: int) -> None:
        in_use = sum(segment.size for segment, _ in self.used.values())
        if in_use + size > self.LIMIT:
            with pytest.raises(StorageFull):
                self.store.take(size)
            return
        segment = self.store.take(size)
        assert segment.size == size == len(segment.view)
        assert segment.number not in self.used
        assert segment.number not in self.gone
        self.stamp += 1
        np.frombuffer(segment.view[:8], np.int64)[:] = self.stamp
        self.used[segment.number] = (segment, self.stamp)

    @precondition(lambda self: self.used)
    @rule(data=st.data(), reuse=st.booleans())
    def give_back(self, data: st.DataObject, reuse: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.used)))
        segment, _ = self.used.pop(number)
        self.store.give_back(segment, reuse=reuse)
        if not reuse:
            self.gone.add(number)

    @rule()
    def start_again(self) -> None:
        before = {int(name[:10]) for name in names_in(self.path)}
        self.store.close(remove=False)
        self.store = SegmentStore(self.path, limit=self.LIMIT)
        for number, (segment, stamp) in list(self.used.items()):
            self.used[number] = (self.store.adopt(number, segment.size), stamp)
        self.store.sweep(set(self.used))
        self.gone |= before - set(self.used)

    @invariant()
    def everything_is_where_it_should_be(self) -> None:
        files = names_in(self.path)
        assert sum((self.path / name).stat().st_size for name in files) == self.store.allocated
        assert self.store.allocated <= self.LIMIT
        numbers = {int(name[:10]) for name in files}
        assert numbers >= set(self.used)
        assert not numbers & self.gone
        for segment, stamp in self.used.values():
            assert np.frombuffer(segment.view[:8], np.int64)[0] == stamp

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close(remove=True)
            self.folder.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
