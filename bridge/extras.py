"""What an import that fails says: which extra of the distribution brings the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bridge.errors import MissingExtra

__all__ = ["needs"]

_OURS = ("analytics", "bridge", "sim_adapters")


@contextlib.contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """Turn the failure of an import in this block into a sentence that names the extra.

    Parameters
    ----------
    extra
        The extra of the distribution ``headrace`` that brings what is imported.
    purpose
        What it is needed for, as the end of the sentence "… is needed for".

    Raises
    ------
    MissingExtra
        If a package is not there. A module of Headrace's own that is missing stays the error that
        it is: installing something would not help.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package in _OURS:
            raise
        raise MissingExtra(package, extra, purpose) from error
