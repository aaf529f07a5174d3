"""What clients keep mapped: bounded, read-only for readers, never pulled from under a view."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import CorruptSegment
from bridge.staging.segments import SegmentMap, SegmentStore

SIZE = 8192


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    store = SegmentStore(tmp_path / "segments", limit=16 * SIZE)
    segments = [store.take(SIZE) for _ in range(4)]
    for segment in segments:
        segment.view[:] = bytes([segment.number]) * SIZE
    return [segment.path for segment in segments]


def test_readers_map_read_only(paths: list[Path]) -> None:
    view = SegmentMap().get(paths[0], SIZE)
    assert view.readonly
    assert not np.frombuffer(view, np.uint8).flags.writeable


def test_a_writer_is_seen_by_a_reader_of_the_same_map(paths: list[Path]) -> None:
    views = SegmentMap()
    reader = views.get(paths[0], SIZE)
    views.get(str(paths[0]), SIZE, write=True)[:5] = b"hello"
    assert bytes(reader[:5]) == b"hello"
    assert views.get(paths[0], SIZE) is reader
    assert len(views) == 2


def test_the_least_recently_used_is_forgotten_first(paths: list[Path]) -> None:
    views = SegmentMap(count=2)
    first = views.get(paths[0], SIZE)
    views.get(paths[1], SIZE)
    assert views.get(paths[0], SIZE) is first
    views.get(paths[2], SIZE)
    assert [path in views for path in paths] == [True, False, True, False]
    assert len(views) == 2


def test_what_was_forgotten_stays_valid_while_it_is_used(paths: list[Path]) -> None:
    views = SegmentMap(count=1)
    arrays = [np.frombuffer(views.get(path, SIZE), np.uint8) for path in paths]
    views.clear()
    for path in paths:
        path.unlink()
    assert [int(array.max()) for array in arrays] == [0, 1, 2, 3]
    assert len(views) == 0


def test_a_mapping_goes_with_its_last_view(paths: list[Path]) -> None:
    views = SegmentMap()
    part = views.get(paths[1], SIZE)[10:20]
    views.forget(paths[1])
    views.forget(paths[1])
    maps = Path("/proc/self/maps")
    # The store of the fixture maps the file, too: writable.
    lines = [line for line in maps.read_text().splitlines() if line.endswith(str(paths[1]))]
    assert sum(" r--s " in line for line in lines) == 1
    assert bytes(part) == b"\1" * 10
    del part
    lines = [line for line in maps.read_text().splitlines() if line.endswith(str(paths[1]))]
    assert sum(" r--s " in line for line in lines) == 0


def test_another_size_is_mapped_anew(paths: list[Path]) -> None:
    views = SegmentMap()
    assert len(views.get(paths[0], 100)) == 100
    assert len(views.get(paths[0], SIZE)) == SIZE
    assert len(views) == 1


def test_many_mappings_hold_few_files_open(paths: list[Path]) -> None:
    views = SegmentMap(count=2)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for path in paths:
            views.get(path, SIZE)
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "0000000003.segment"
    with pytest.raises(CorruptSegment, match=rf"The segment file {path} does not exist: .*node\."):
        SegmentMap().get(path, SIZE)


def test_a_file_that_was_cut_off_is_told(paths: list[Path]) -> None:
    os.truncate(paths[0], 100)
    with pytest.raises(CorruptSegment, match=rf"{paths[0]} has 100 bytes where {SIZE} are expect"):
        SegmentMap().get(paths[0], SIZE)


def test_a_peer_cannot_make_us_map_any_file(tmp_path: Path, paths: list[Path]) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(SIZE))
    link = tmp_path / "0000000009.segment"
    link.symlink_to(secret)
    folder = tmp_path / "0000000010.segment"
    folder.mkdir()
    pipe = tmp_path / "0000000011.segment"
    os.mkfifo(pipe)
    for path in (secret, link, folder, pipe):
        for write in (False, True):
            with pytest.raises(CorruptSegment, match="and is not mapped"):
                SegmentMap().get(path, SIZE, write=write)


def test_a_map_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one mapping; 0 were"):
        SegmentMap(count=0)
