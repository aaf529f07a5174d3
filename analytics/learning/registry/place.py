"""Where everything of a registry lies in its folder, and who may write there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from analytics.learning.registry import files
from analytics.learning.registry.cards import FORMAT
from bridge.errors import ConfigError, CorruptData, VersionMismatch
from bridge.schema import check_name

__all__ = ["Place"]


class _Marker(msgspec.Struct, frozen=True):
    headrace_registry: int


class Place:
    """The folder of a registry.

    Parameters
    ----------
    folder
        Made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = folder / "versions"
        self.programs = folder / "programs"
        self._checked = False

    def history(self, name: str) -> Path:
        """Return the file of what was served under a name."""
        return self._of(name) / "history.jsonl"

    def cards(self, name: str) -> Path:
        """Return the folder of the cards of a name."""
        return self._of(name) / "cards"

    def card(self, name: str, version: str) -> Path:
        """Return the file of a card."""
        return self.cards(name) / f"{version}.json"

    def tensors(self, version: str) -> Path:
        """Return the file of the tensors of a version."""
        return self.versions / f"{version}.safetensors"

    def find_cards(self, pattern: str = "*") -> list[Path]:
        """Return the cards, of all names, of the versions that a pattern matches."""
        found = self.folder.glob(f"names/*/cards/{pattern}.json")
        return sorted(path for path in found if not path.name.startswith("."))

    def read_tensors(self, version: str) -> bytes:
        """Return what is in the file of the tensors.

        Raises
        ------
        CorruptData
            If it is gone.
        ConfigError
            If it cannot be read.
        """
        path = self.tensors(version)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptData(
                f"The tensors {path} of a version are gone. Restore the file from a copy, or "
                "promote another version of the same name."
            ) from error
        except OSError as error:
            raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep everybody else who writes out; makes the registry if it is not there.

        Raises
        ------
        ConfigError
            If the folder holds something else, or cannot be written.
        RegistryError
            If somebody else is at it for too long.
        """
        self.check_format()
        files.make_folder(self.folder)
        with files.lock(self.folder / ".lock"):
            marker = self.folder / "registry.json"
            if not marker.exists():
                self._refuse_foreign()
                files.write_whole(marker, msgspec.json.encode(_Marker(FORMAT)) + b"\n")
            yield

    def check_format(self) -> None:
        """Refuse a registry that a newer release made; one that is not there yet is none.

        Raises
        ------
        VersionMismatch
            If it is newer.
        CorruptData
            If it does not say what it is.
        """
        if self._checked:
            return
        marker = self.folder / "registry.json"
        try:
            written = msgspec.json.decode(marker.read_bytes(), type=_Marker).headrace_registry
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"Cannot read {marker}: {error.strerror}.") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptData(
                f"{marker} is damaged or is something else: {str(error).rstrip('.')}. If the "
                f'folder is a registry of models, write {{"headrace_registry":{FORMAT}}} into it.'
            ) from error
        if written > FORMAT:
            raise VersionMismatch(
                f"The registry {self.folder} has the format {written}; this release of Headrace "
                f"knows {FORMAT}. Update Headrace here, or use a registry of its own."
            )
        self._checked = True

    def _refuse_foreign(self) -> None:
        # A trainer keeps its own notes here, and may begin before anything is stored.
        ours = {".lock", "registry.json", "names", "versions", "programs", "trainers"}
        others = sorted(path.name for path in self.folder.iterdir() if path.name not in ours)
        others = [name for name in others if not name.startswith(".registry.json-")]
        if others:
            raise ConfigError(
                f"{self.folder} is not a registry of models: it holds {others[0]!r}. Name an "
                "empty folder, or one that does not exist yet."
            )

    def _of(self, name: str) -> Path:
        return self.folder / "names" / check_name(name, "name of a model")
