"""What the tests of staging share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.staging import Stager, StagerClient


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 256 kB; needs the right to mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "headrace-test", str(path)]
    try:
        subprocess.run(mount, capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"No file system can be mounted here: {error}.")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], timeout=30, check=True)


@pytest.fixture(params=["memory", "tcp"])
def stager(request: pytest.FixtureRequest) -> Iterator[Stager]:
    """A stager in RAM, in a thread."""
    address = {"memory": f"memory://{abs(hash(request.node.name))}", "tcp": "tcp://127.0.0.1:0"}
    with Stager(address[request.param]) as service:
        yield service.start()


@pytest.fixture
def client(stager: Stager) -> Iterator[StagerClient]:
    """A reader of that stager."""
    with StagerClient(stager.address) as reader:
        yield reader
