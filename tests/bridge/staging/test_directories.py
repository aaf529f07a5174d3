"""Whose folder it is, and what becomes of the folders of the dead."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.errors import StagingError
from bridge.staging import directories
from bridge.staging.directories import default_directory, is_in_memory, remove_abandoned
from bridge.staging.segments import SegmentStore

LIVE = """
import sys
from bridge.staging.segments import SegmentStore, default_directory
store = SegmentStore(default_directory(), limit=1 << 20)
store.take(4096).view[:] = b"x" * 4096
print(store.directory, flush=True)
sys.stdin.read()
"""


@contextmanager
def running(code: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run code in a process of its own; yield it with its first line, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_new_folder_is_private_and_in_memory() -> None:
    path = default_directory()
    store = SegmentStore(path, limit=1 << 20)
    try:
        assert path.name.startswith(f"headrace-{os.getuid()}-")
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        if is_in_memory(Path("/dev/shm")):
            assert path.parent == Path("/dev/shm")
            assert is_in_memory(path)
    finally:
        store.close(remove=True)
    assert not path.exists()


def test_a_temporary_folder_goes_with_everything_in_it() -> None:
    store = SegmentStore(default_directory(), limit=1 << 20)
    (store.directory / "journal").write_bytes(b"of no use any more")
    store.close(remove=True)
    assert not store.directory.exists()


def test_too_little_memory_leads_to_the_disk() -> None:
    store = SegmentStore(default_directory(room=1 << 60), limit=1 << 20)
    try:
        assert store.directory.parent == Path(tempfile.gettempdir())
    finally:
        store.close(remove=True)


def test_file_systems_are_told_apart(small_disk: Path) -> None:
    assert is_in_memory(small_disk)
    assert not is_in_memory(Path("/proc"))


def test_the_folder_of_a_killed_stager_is_removed_and_that_of_a_living_one_is_not() -> None:
    with running(LIVE) as (dying, dead), running(LIVE) as (_, alive):
        assert sorted(os.listdir(dead)) == ["0000000000.segment", "numbers", "owner"]
        dying.kill()
        dying.wait()
        assert Path(dead).is_dir()
        path = default_directory()
        assert not Path(dead).exists()
        assert Path(alive).is_dir()
        SegmentStore(path, limit=1).close(remove=True)
    remove_abandoned(Path(alive).parent)
    assert not Path(alive).exists()


def test_a_child_that_outlives_its_parent_does_not_own_the_folder(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from bridge.staging.segments import SegmentStore
store = SegmentStore(Path({str(tmp_path / "segments")!r}), limit=1 << 20)
store.take(100)
ready, begun = os.pipe()
child = os.fork()
if child == 0:
    store.close(remove=True)  # not its own: nothing happens
    os.write(begun, b"x")
    sys.stdin.read()
    os._exit(0)
os.read(ready, 1)
print(child, flush=True)
os.waitpid(child, 0)
"""
    with running(code) as (parent, _):
        with pytest.raises(StagingError, match=rf"process {parent.pid}\)"):
            SegmentStore(tmp_path / "segments", limit=1 << 20)
        parent.kill()
        parent.wait()
        # The child waits on the pipe that this process holds open, so it is alive here.
        store = SegmentStore(tmp_path / "segments", limit=1 << 20)
        store.adopt(0, 100)
        store.close(remove=True)


def test_only_what_was_abandoned_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"headrace-{os.getuid()}-"
    for name in ("being-made", "of-a-user", "temporary"):
        (tmp_path / f"{prefix}{name}").mkdir()
    (tmp_path / f"{prefix}of-a-user" / "owner").write_bytes(b"1 \n")
    (tmp_path / f"{prefix}temporary" / "owner").write_bytes(b"1 temporary\n")
    (tmp_path / f"{prefix}file").touch()
    (tmp_path / f"{prefix}link").symlink_to(tmp_path / f"{prefix}of-a-user")
    (tmp_path / "something-else").mkdir()
    assert remove_abandoned(tmp_path) == 1
    left = [f"{prefix}{name}" for name in ("being-made", "file", "link", "of-a-user")]
    assert sorted(os.listdir(tmp_path)) == [*left, "something-else"]
    # Nobody takes a minute to make a folder.
    monkeypatch.setattr(directories, "_MAKING_SECONDS", 0.0)
    assert remove_abandoned(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == [*left[1:], "something-else"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StagingError, match=r"cannot be used for the stager's files: .* write to\."):
        SegmentStore(tmp_path / "file" / "segments", limit=1)


def test_a_folder_that_nobody_took_is_left_to_the_next_process_in_silence() -> None:
    code = "from bridge.staging.segments import default_directory; print(default_directory())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    path = Path(done.stdout.strip())
    assert done.stderr == ""
    assert path.is_dir()
    remove_abandoned(path.parent)
    assert not path.exists()
