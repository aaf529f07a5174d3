"""Keys on their way to the processes of a member: as files, never on a command line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.staging.connection import Connection
from bridge.staging.keys import KEYS_ENVIRONMENT, store_keys

__all__ = ["key_folder", "pass_keys"]


@contextmanager
def key_folder(connection: Connection) -> Iterator[str]:
    """Give the folder of a connection's keys; empty for a connection without.

    Where the keys came without a folder, they lie in a private one of their own meanwhile, which
    this machine alone may see.
    """
    if not connection.keys:
        yield ""
    elif connection.key_folder:
        yield str(Path(connection.key_folder).absolute())
    else:
        with tempfile.TemporaryDirectory(prefix="headrace-keys-") as made:
            store_keys(connection.keys, Path(made))
            yield made


@contextmanager
def pass_keys(connection: Connection) -> Iterator[dict[str, str]]:
    """Give what the environment of a program must hold for its links to find the keys."""
    with key_folder(connection) as folder:
        yield {KEYS_ENVIRONMENT: folder}
