"""Builds the C library with sanitizers, once, and the test programs over it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sim_adapters.c import cflags, directory, libraries
from tests.sim_adapters.c.common import Start, finish, run

HERE = Path(__file__).parent
SANITIZE = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
# Both tell of faults by the exit status; a fault in C ends the program.
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:exitcode=99")
os.environ.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1:exitcode=98")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the library, built with sanitizers."""
    if not shutil.which("cc") or not shutil.which("make"):
        pytest.skip("The C library needs cc and make to be built.")
    if not any(Path(p, "zmq.h").exists() for p in ("/usr/include", "/usr/local/include")):
        pytest.skip("The C library needs the headers of libzmq (libzmq3-dev).")
    folder = tmp_path_factory.mktemp("libheadrace")
    flags = " ".join([*SANITIZE, "-Wpedantic", "-Wshadow", "-Wconversion"])
    run(["make", "-s", "-C", str(directory()), f"BUILD={folder}", f"CFLAGS={flags}"])
    return folder


@pytest.fixture(scope="session")
def compile_c(library: Path) -> Callable[[str], Path]:
    """Return a function that builds a test program of this folder, and returns its path."""

    def build(name: str) -> Path:
        out = library / name
        if not out.exists():
            run(
                ["cc", "-std=gnu99", *SANITIZE, *cflags(), str(HERE / f"{name}.c"), "-o", str(out),
                 str(library / "libheadrace.a"), *libraries()]
            )  # fmt: skip
        return out

    return build


@pytest.fixture
def start(compile_c: Callable[[str], Path]) -> Iterator[Start]:
    """Start the test simulation; whatever still runs at the end of the test is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(name: str, **options: object) -> subprocess.Popen[str]:
        words = [f"{k}={v}" for k, v in options.items()]
        process = subprocess.Popen(
            [str(compile_c("sim")), name, *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


@pytest.fixture
def simulate(start: Start) -> Callable[..., str]:
    """Run the test simulation to its end, and return what it printed."""

    def whole(name: str, **options: object) -> str:
        return finish(start(name, **options))

    return whole
