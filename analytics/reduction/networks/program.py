"""Programs that were exported by `torch.export.save`, read without running what is in the file."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path, PurePosixPath

import torch
from torch import nn

from bridge.errors import ConfigError

__all__ = ["digest_of", "read_program"]

_TENSORS = ("weight_", "tensor_")
"""Beginnings of the names of files that hold plain tensors."""


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"Cannot read the program {path}: {error.strerror}.") from error


def read_program(path: Path, sha256: str = "") -> nn.Module:
    """Load an exported program as a module whose parameters can be trained.

    `torch.export.load` runs pickled objects, if the file holds any. A program of tensors alone
    needs none; any other is refused before it is loaded.

    Parameters
    ----------
    path
        What `torch.export.save` wrote.
    sha256
        What the file must be; empty for anything.

    Raises
    ------
    ConfigError
        If the file cannot be read, is another one, is no program, or holds pickled objects.
    """
    found = digest_of(path)
    if sha256 and sha256 != found:
        raise ConfigError(
            f"The program {path} has the SHA-256 {found}; the model was made from another, "
            f"{sha256}. Put that file there."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                _check_member(path, name, archive.read(name))
        module: nn.Module = torch.export.load(path).module()
    except ConfigError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{path} is no program that this version of torch can load: {error}."
        ) from error
    return module


def _check_member(path: Path, name: str, content: bytes) -> None:
    if name.endswith(".pt"):
        # Given that this succeeds, torch goes no other way than this one.
        try:
            torch.load(io.BytesIO(content), weights_only=True)
        except Exception as error:
            raise _refused(path, name) from error
    elif name.endswith("_config.json"):
        for entry in json.loads(content)["config"].values():
            plain = PurePosixPath(entry["path_name"]).name.startswith(_TENSORS)
            if entry["use_pickle"] or not plain:
                raise _refused(path, name)


def _refused(path: Path, name: str) -> ConfigError:
    return ConfigError(
        f"The program {path} holds pickled objects ({name}), which could run anything; export a "
        "module of plain tensors, or name its factory instead."
    )
