r"""``python -m sim_adapters.c``: where the library for C, C++ and Fortran lies.

For example::

    make -C $(python -m sim_adapters.c --directory) BUILD=$PWD/build
    cc $(python -m sim_adapters.c --cflags) mine.c build/libheadrace.a \
        $(python -m sim_adapters.c --libs)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from sim_adapters.c.files import cflags, directory, fortran_sources, libraries, sources

__all__ = ["main"]

_QUESTIONS: dict[str, tuple[str, Callable[[], Sequence[object]]]] = {
    "directory": ("folder of headrace.h, Makefile and CMakeLists.txt", lambda: [directory()]),
    "sources": ("the library's C files", sources),
    "fortran": ("the files of the Fortran module", fortran_sources),
    "cflags": ("options for the compiler", cflags),
    "libs": ("options for the linker", libraries),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the answers to the questions asked, separated by spaces."""
    parser = argparse.ArgumentParser("python -m sim_adapters.c", description=__doc__.split("\n")[0])
    for name, (words, _) in _QUESTIONS.items():
        parser.add_argument(f"--{name}", action="store_true", help=words)
    asked = vars(parser.parse_args(arguments))
    wanted = [name for name, yes in asked.items() if yes] or ["directory"]
    answers = [str(word) for name in wanted for word in _QUESTIONS[name][1]()]
    sys.stdout.write(" ".join(answers) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
