"""The library is built by plain make and by CMake, and found by Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sim_adapters.c import directory, fortran_sources, sources
from tests.sim_adapters.c.common import run

MINE = """
cmake_minimum_required(VERSION 3.16)
project(mine LANGUAGES C CXX)
add_subdirectory({directory} headrace)
add_executable(mine mine.cpp)
target_link_libraries(mine PRIVATE headrace::headrace)
"""

CPP = """
#include <headrace.h>
#include <cstdio>
int main() {
    hr_stream *s = nullptr;
    if (hr_new(&s, "w") < 0 || hr_declare(s, "x", HR_FLOAT64, 0, nullptr, "nm", 0) < 0) return 1;
    std::printf("%d %s\\n", hr_open(nullptr), hr_last_error());
    hr_free(&s);
    return s != nullptr;
}
"""


@pytest.mark.skipif(not shutil.which("cmake"), reason="There is no CMake.")
def test_cmake_builds_it_into_a_project_in_cpp(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(MINE.format(directory=directory()))
    (tmp_path / "mine.cpp").write_text(CPP)
    build = tmp_path / "build"
    run(["cmake", "-S", str(tmp_path), "-B", str(build), "-DHEADRACE_FORTRAN=OFF"])
    run(["cmake", "--build", str(build)])
    assert run([str(build / "mine")]) == "-1 hr_open needs a stream; make one with hr_new.\n"


FOUND = """
cmake_minimum_required(VERSION 3.16)
project(mine LANGUAGES CXX)
find_package(headrace 0.1 REQUIRED)
set(CMAKE_CXX_STANDARD 17)
add_executable(mine mine.cpp)
target_compile_options(mine PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Werror)
target_link_libraries(mine PRIVATE headrace::headrace)
"""


@pytest.mark.skipif(not shutil.which("cmake"), reason="There is no CMake.")
def test_it_can_be_installed_and_found(tmp_path: Path) -> None:
    library, build, prefix = tmp_path / "library", tmp_path / "build", tmp_path / "prefix"
    run(["cmake", "-S", str(directory()), "-B", str(library), "-DHEADRACE_FORTRAN=OFF"])
    run(["cmake", "--build", str(library)])
    run(["cmake", "--install", str(library), "--prefix", str(prefix)])
    (tmp_path / "CMakeLists.txt").write_text(FOUND)
    (tmp_path / "mine.cpp").write_text(CPP)
    run(["cmake", "-S", str(tmp_path), "-B", str(build), f"-DCMAKE_PREFIX_PATH={prefix}"])
    run(["cmake", "--build", str(build)])
    assert run([str(build / "mine")]) == "-1 hr_open needs a stream; make one with hr_new.\n"


def test_python_tells_where_it_lies() -> None:
    ask = [sys.executable, "-m", "sim_adapters.c"]
    assert run(ask).strip() == str(directory())
    assert run([*ask, "--sources"]).split() == [str(p) for p in sources()]
    assert run([*ask, "--fortran"]).split() == [str(p) for p in fortran_sources()]
    assert run([*ask, "--cflags", "--libs"]).split() == (
        [f"-I{directory()}", "-pthread", "-pthread", "-lzmq", "-lm"]
    )
    wrong = subprocess.run([*ask, "--colour"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    for path in (*sources(), *fortran_sources(), directory() / "headrace.h"):
        assert path.is_file()
