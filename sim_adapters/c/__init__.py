"""The library for C, C++ and Fortran, which is installed as source; here is where it lies."""

from sim_adapters.c.files import cflags, directory, fortran_sources, libraries, sources

__all__ = ["cflags", "directory", "fortran_sources", "libraries", "sources"]
