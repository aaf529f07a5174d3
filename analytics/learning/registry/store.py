"""The registry: versions of models, and which of them is served, in a folder that all can reach."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from analytics.learning.registry import files
from analytics.learning.registry.cards import FORMAT, Card, encode_card, read_card
from analytics.learning.registry.history import History, Served, Token, predecessors
from analytics.learning.registry.programs import Programs
from analytics.learning.registry.pruning import find_superfluous
from bridge.errors import ConfigError, CorruptData, Overtaken, VersionMismatch
from bridge.schema import check_name

if TYPE_CHECKING:
    from analytics.learning.alignment import Alignment
    from analytics.learning.model import StreamModel

__all__ = ["Loaded", "Registry"]


class _Marker(msgspec.Struct, frozen=True):
    headrace_registry: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version, ready for use.

    Attributes
    ----------
    model
        On the CPU, set to evaluate.
    alignment
        What turns its coordinates to those of the models before it; None for nothing.
    card
        What is known of it.
    """

    model: StreamModel
    alignment: Alignment | None
    card: Card


class Registry:
    """Versions of models by the hash of what they are, and by name what is served.

    A folder, on any file system that all who use it can reach and that has locks. Any number of
    threads and processes may use it at once: versions are written once and never changed,
    histories are appended to under a lock. Whoever is killed leaves nothing half-made. Nothing in
    it is a pickle, and everything that is read is checked against its hash. Reading needs no lock
    and no right to write. ::

        registry.json                              version of the format
        versions/HASH.safetensors                  tensors
        programs/HASH.pt2                          exported programs, for models that are one
        names/NAME/cards/HASH.json                 what is known of a version
        names/NAME/history.jsonl                   promotions and rollbacks

    Parameters
    ----------
    folder
        Made when something is stored.
    keep
        For each name: how many of the newest versions that were never served are kept. Those that
        were served stay for good, and so do those that one which stays learned on from.
    clock
        Gives the time, Unix time in seconds.
    """

    def __init__(
        self, folder: Path | str, *, keep: int = 20, clock: Callable[[], float] = time.time
    ) -> None:
        if keep < 1:
            raise ConfigError(f"A registry keeps at least one version; 'keep' is {keep}.")
        self.folder = Path(folder)
        self.keep = keep
        self._clock = clock
        self._histories: dict[str, History] = {}
        self._versions = self.folder / "versions"
        self._programs = Programs(self.folder / "programs")
        self._checked = False

    def __repr__(self) -> str:
        return f"Registry({str(self.folder)!r}, keep={self.keep})"

    # ---------------------------------------------------------------- versions

    def add(
        self,
        name: str,
        model: StreamModel,
        *,
        alignment: Alignment | None = None,
        metrics: Mapping[str, float] | None = None,
        trained_on: Mapping[str, Sequence[tuple[int, int]]] | None = None,
        parent: str = "",
        frames: int = 0,
        updates: int = 0,
        note: str = "",
    ) -> Card:
        """Store a version; blocks until it would survive a power failure.

        What is there already is not stored twice: then the card from then is returned. Versions
        beyond `keep` are removed.

        Raises
        ------
        ConfigError
            If the model is not made of tensors and plain data, or the folder cannot be written.
        StorageFull
            If there is no space; nothing is left of the attempt.
        """
        import torch

        from analytics.learning.registry import contents

        hyper, program = self._programs.name_by_hash(model.hyper)
        architecture = {
            "kind": model.kind, "input_shape": list(model.input_shape), "hyper": hyper,
        }  # fmt: skip
        tensors = contents.collect(model, alignment.to_tensors() if alignment else None)
        version = contents.hash_contents(architecture, tensors)
        card = Card(
            version=version,
            name=check_name(name, "name of a model"),
            kind=model.kind,
            input_shape=model.input_shape,
            hyper=hyper,
            latent=model.latent,
            lagged=model.lagged,
            parameters=sum(p.numel() for p in model.parameters()),
            nbytes=sum(t.nbytes for t in tensors.values()),
            aligned=alignment is not None,
            metrics={key: float(value) for key, value in (metrics or {}).items()},
            trained_on={
                simulation: [(int(first), int(stop)) for first, stop in ranges]
                for simulation, ranges in sorted((trained_on or {}).items())
            },
            parent=self.resolve(parent) if parent else "",
            frames=frames,
            updates=updates,
            note=note,
            created=self._clock(),
            code=f"headrace {_release()}",
            source=contents.source_of(model),
            torch=str(torch.__version__),
        )
        with self._writing():
            place = self._card_path(name, version)
            if place.exists() and self._tensors_path(version).exists():
                return read_card(place)
            files.make_folder(place.parent)
            files.make_folder(self._versions)
            if program is not None:
                self._programs.store(program)
            if not self._tensors_path(version).exists():
                packed = contents.pack(architecture, tensors)
                files.write_whole(self._tensors_path(version), packed)
            # Last: a version without a card is not there, and is removed in time.
            files.write_whole(place, encode_card(card))
            self._prune(name)
        return card

    def load(self, version: str) -> Loaded:
        """Return a version, made anew and checked.

        Parameters
        ----------
        version
            See `resolve`.

        Raises
        ------
        ConfigError
            If there is no such version, or this environment lacks its kind of model.
        CorruptData
            If what is stored is damaged, or is something else.
        """
        import torch

        from analytics.learning.model import make_model
        from analytics.learning.registry import contents

        card = self.card(version)
        path = self._tensors_path(card.version)
        tensors, aligning = contents.split(contents.unpack(self._bytes(path), card, path))
        hyper = self._programs.find(card.hyper)
        # Weights that are thrown away at once shall not use up anybody's random numbers.
        with torch.random.fork_rng(devices=[]):
            model = make_model(card.kind, card.input_shape, hyper)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise CorruptData(
                f"The version {card.version[:12]} of {card.name!r} does not fit the code of its "
                f"kind {card.kind!r} that is installed here: {str(error).rstrip('.')}. It was "
                f"stored by {card.code}; use that release, or train the model anew."
            ) from error
        alignment = None
        if aligning:
            from analytics.learning.alignment import Alignment

            alignment = Alignment.from_tensors(aligning)
        return Loaded(model.eval(), alignment, card)

    def card(self, version: str) -> Card:
        """Return what is known of a version; see `resolve` for how to name it.

        Raises
        ------
        ConfigError
            If there is no such version.
        CorruptData, VersionMismatch
            If the card is damaged, or written by a newer release.
        """
        self._check_format()
        whole = version if len(version) == 64 and version.isalnum() else self.resolve(version)
        found = self._find_cards(whole) or self._find_cards(self.resolve(version))
        return read_card(sorted(found)[0])

    def cards(self, name: str) -> list[Card]:
        """Return what is known of all versions under a name, oldest first."""
        self._check_format()
        places = self._card_path(name, "x").parent.glob("[!.]*.json")
        return sorted((read_card(p) for p in places), key=lambda c: (c.created, c.version))

    def names(self) -> list[str]:
        """Return the names that have versions."""
        self._check_format()
        return sorted({place.parent.parent.name for place in self._find_cards("*")})

    def resolve(self, text: str) -> str:
        """Return the hash of a version.

        Parameters
        ----------
        text
            A hash, or the beginning of one (4 digits at least) that no other has; ``NAME@NUMBER``
            for what was served under a name as a number; ``NAME`` for what is served now.

        Raises
        ------
        ConfigError
            If there is no such version, or more than one.
        """
        self._check_format()
        name, at, number = text.partition("@")
        if at:
            if not number.isdecimal():
                raise ConfigError(f"{text!r} is not NAME@NUMBER: {number!r} is not a number.")
            return self.at_number(name, int(number)).version
        digits = len(text) >= 4 and set(text) <= set("0123456789abcdef")
        found = {place.stem for place in self._find_cards(text + "*")} if digits else set()
        if len(found) == 1:
            return found.pop()
        if found:
            raise ConfigError(
                f"{len(found)} versions in {self.folder} begin with {text!r}; write more digits."
            )
        if text in self.names() and (served := self.served(text)) is not None:
            return served.version
        raise ConfigError(
            f"There is no version {text!r} in the registry {self.folder}. Name one by the first "
            "digits of its hash, or as NAME@NUMBER; 'headrace models list' shows what there is."
        )

    # --------------------------------------------------------------- histories

    def token(self, name: str) -> Token:
        """Return something that changes when the history of a name does; a few microseconds."""
        return self._history(name).token()

    def history(self, name: str) -> list[Served]:
        """Return what was served under a name, oldest first.

        Raises
        ------
        CorruptData
            If the history is damaged.
        """
        self._check_format()
        return list(self._history(name).read())

    def served(self, name: str) -> Served | None:
        """Return what is served under a name, None for nothing."""
        self._check_format()
        entries = self._history(name).read()
        return entries[-1] if entries else None

    def at_number(self, name: str, number: int) -> Served:
        """Return what was served as a number of the history of a name, from 1.

        Raises
        ------
        ConfigError
            If the history has no such number.
        """
        entries = self.history(name)
        if not 1 <= number <= len(entries):
            raise ConfigError(
                f"The history of {name!r} in {self.folder} has {len(entries)} entries; there is "
                f"no number {number}."
            )
        return entries[number - 1]

    def predecessor(self, name: str) -> Served | None:
        """Return what `rollback` would go back to, None for nothing."""
        before = predecessors(self.history(name))
        return before[-1] if before else None

    def promote(
        self,
        name: str,
        version: str,
        *,
        reason: str,
        metrics: Mapping[str, float] | None = None,
        author: str = "",
        after: int | None = None,
    ) -> Served:
        """Serve a version under a name from now on.

        Returns once that would survive a power failure. What is served already stays so, and
        nothing is added to the history.

        Parameters
        ----------
        name, version
            A version that was stored under this name; see `resolve`.
        reason, author
            Why, in a sentence, and who says so.
        metrics
            Figures that it has now, for comparison later on.
        after
            Do it only if the history ends with this number (0: is empty).

        Raises
        ------
        Overtaken
            If it does not: somebody else was faster.
        ConfigError
            If there is no such version under this name, or no reason was given.
        CorruptData
            If the version is damaged; a damaged one is never served.
        StorageFull
            If there is no space; the history is as it was.
        """
        return self._serve(name, version, "promotion", reason, metrics, author, after)

    def rollback(
        self,
        name: str,
        *,
        reason: str,
        to: str = "",
        metrics: Mapping[str, float] | None = None,
        author: str = "",
        after: int | None = None,
    ) -> Served:
        """Serve again what was served before; see `promote`, also for what it raises.

        Parameters
        ----------
        to
            A version that was served before; by default the one before that in service. After one
            rollback, a second one goes further back.
        """
        if not to:
            before = self.predecessor(name)
            if before is None:
                raise ConfigError(
                    f"Nothing was served under {name!r} in {self.folder} before what is now; "
                    "there is nothing to go back to."
                )
            to = before.version
        elif self.resolve(to) not in [entry.version for entry in self.history(name)]:
            raise ConfigError(
                f"{to!r} was never served under {name!r}; one can go back only to what was. "
                "Promote it instead."
            )
        return self._serve(name, to, "rollback", reason, metrics, author, after)

    def prune(self, name: str) -> list[str]:
        """Remove the versions of a name beyond `keep`, and return them.

        Done by `add` as well. Never removes one that was ever served.
        """
        with self._writing():
            return self._prune(name)

    # ------------------------------------------------------------------- inside

    def _serve(
        self,
        name: str,
        version: str,
        kind: Any,
        reason: str,
        metrics: Mapping[str, float] | None,
        author: str,
        after: int | None,
    ) -> Served:
        if not reason.strip():
            raise ConfigError(f"Say why {version[:12]!r} is to be served: give a reason.")
        wanted = self.resolve(version)
        card_path = self._card_path(name, wanted)
        if not card_path.exists():
            raise ConfigError(
                f"The version {wanted[:12]} was not stored under {name!r}; 'headrace models list' "
                "shows under which name it was."
            )
        with self._writing(), files.lock(card_path.parent.parent / ".lock"):
            self._verify(read_card(card_path))
            history = self._history(name)
            entries = history.read()
            if after is not None and after != len(entries):
                raise Overtaken(
                    f"The history of {name!r} has {len(entries)} entries by now, not {after}: "
                    "somebody else was faster. Judge again against what is served now."
                )
            if entries and entries[-1].version == wanted:
                return entries[-1]
            figures = {key: float(value) for key, value in (metrics or {}).items()}
            entry = Served(len(entries) + 1, wanted, self._clock(), reason, kind, figures, author)
            history.append(entry)
            return entry

    def _verify(self, card: Card) -> None:
        from analytics.learning.registry import contents

        path = self._tensors_path(card.version)
        contents.unpack(self._bytes(path), card, path)
        self._programs.find(card.hyper)

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptData(
                f"The tensors {path} of a version are gone. Restore the file from a copy, or "
                "promote another version of the same name."
            ) from error
        except OSError as error:
            raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error

    def _history(self, name: str) -> History:
        found = self._histories.get(name)
        if found is None:
            folder = self.folder / "names" / check_name(name, "name of a model")
            found = self._histories.setdefault(name, History(folder / "history.jsonl"))
        return found

    def _card_path(self, name: str, version: str) -> Path:
        folder = self.folder / "names" / check_name(name, "name of a model")
        return folder / "cards" / f"{version}.json"

    def _tensors_path(self, version: str) -> Path:
        return self._versions / f"{version}.safetensors"

    def _find_cards(self, pattern: str) -> list[Path]:
        found = self.folder.glob(f"names/*/cards/{pattern}.json")
        return [place for place in found if not place.name.startswith(".")]

    def _prune(self, name: str) -> list[str]:
        now = self._clock()
        served = {entry.version for entry in self._history(name).read()}
        gone = find_superfluous(self.cards(name), served, self.keep)
        for version in gone:
            self._card_path(name, version).unlink(missing_ok=True)
        cards = [read_card(place) for place in self._find_cards("*")]
        known = {card.version for card in cards}
        for place in self._versions.glob("[!.]*.safetensors"):
            if place.stem not in known:
                place.unlink(missing_ok=True)
        self._programs.keep_only(card.hyper for card in cards)
        for folder in (self._versions, self._card_path(name, "x").parent, self._programs.folder):
            files.remove_stale(folder, now=now)
        return gone

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._check_format()
        files.make_folder(self.folder)
        with files.lock(self.folder / ".lock"):
            marker = self.folder / "registry.json"
            if not marker.exists():
                others = [p.name for p in self.folder.iterdir() if p.name != ".lock"]
                if others and not (self.folder / "names").is_dir():
                    raise ConfigError(
                        f"{self.folder} is not a registry of models: it holds {others[0]!r}. Name "
                        "an empty folder, or one that does not exist yet."
                    )
                files.write_whole(marker, msgspec.json.encode(_Marker(FORMAT)) + b"\n")
            yield

    def _check_format(self) -> None:
        if self._checked:
            return
        marker = self.folder / "registry.json"
        try:
            written = msgspec.json.decode(marker.read_bytes(), type=_Marker).headrace_registry
        except FileNotFoundError:
            return  # nothing was stored yet
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


def _release() -> str:
    try:
        return metadata.version("headrace")
    except metadata.PackageNotFoundError:
        return "unknown"
