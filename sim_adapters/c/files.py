"""Where the library's files lie, and what a compiler has to be told."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cflags", "directory", "fortran_sources", "libraries", "sources"]


def directory() -> Path:
    """Return the folder of ``headrace.h``, ``Makefile`` and ``CMakeLists.txt``."""
    return Path(__file__).parent


def sources() -> list[Path]:
    """Return the C files, which can be compiled along with a simulation's own."""
    return sorted((directory() / "src").glob("*.c"))


def fortran_sources() -> list[Path]:
    """Return the files of the Fortran module ``headrace``, in the order of compilation."""
    return [directory() / "headrace_c.f90", directory() / "headrace.f90"]


def cflags() -> list[str]:
    """Return what compiling needs: the folder of the header."""
    return [f"-I{directory()}", "-pthread"]


def libraries() -> list[str]:
    """Return what linking needs beside the library."""
    return ["-pthread", "-lzmq", "-lm"]
