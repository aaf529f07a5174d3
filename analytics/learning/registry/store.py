"""The registry: versions of models, and which of them is served, in a folder that all can reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analytics.learning.registry import files
from analytics.learning.registry.cards import Card, encode_card, read_card, read_cards
from analytics.learning.registry.history import History, Served, Token, predecessors
from analytics.learning.registry.place import Place
from analytics.learning.registry.programs import Programs
from analytics.learning.registry.pruning import find_superfluous, remove
from bridge.errors import ConfigError, HeadraceError, Overtaken
from bridge.schema import check_name

if TYPE_CHECKING:
    from analytics.learning.alignment import Alignment
    from analytics.learning.model import StreamModel
    from analytics.learning.registry.loaded import Loaded

__all__ = ["Registry"]


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
        self._place = Place(self.folder)
        self._programs = Programs(self._place.programs)

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
        from analytics.learning.registry import contents
        from analytics.learning.registry.making import describe

        hyper, program = self._programs.name_by_hash(model.hyper)
        card, tensors = describe(
            model,
            alignment,
            hyper,
            name=check_name(name, "name of a model"),
            metrics=metrics or {},
            trained_on=trained_on or {},
            parent=self.resolve(parent) if parent else "",
            frames=frames,
            updates=updates,
            note=note,
            created=self._clock(),
        )
        path, place = self._place.tensors(card.version), self._place.card(name, card.version)
        is_new = not place.exists()
        if is_new or not path.exists():
            packed = contents.pack(card.architecture, tensors)
            with self._place.writing():
                files.make_folder(self._place.versions)
                files.make_folder(place.parent)
            # What takes long is done while others may write, too. It is no version without a card.
            self._store_contents(path, packed, program)
            with self._place.writing():
                # Somebody may have removed it meanwhile, as the same thing under another name.
                self._store_contents(path, packed, program)
                is_new = not place.exists()
                if is_new:
                    self._store_card(place, card)
                    self._prune(name)
        return card if is_new else read_card(place)

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
        from analytics.learning.registry.making import rebuild

        card = self.card(version)
        path = self._place.tensors(card.version)
        data = self._place.read_tensors(card.version)
        return rebuild(card, data, path, self._programs.find(card.hyper))

    def card(self, version: str) -> Card:
        """Return what is known of a version; see `resolve` for how to name it.

        Raises
        ------
        ConfigError
            If there is no such version.
        CorruptData, VersionMismatch
            If the card is damaged, or written by a newer release.
        """
        self._place.check_format()
        whole = version if len(version) == 64 and version.isalnum() else self.resolve(version)
        found = self._place.find_cards(whole) or self._place.find_cards(self.resolve(version))
        return read_card(found[0])

    def cards(self, name: str) -> list[Card]:
        """Return what is known of all versions under a name, oldest first.

        A card that is damaged, or a newer release's, is left out, and told in the log.
        """
        self._place.check_format()
        cards = read_cards(self._place.cards(name).glob("[!.]*.json"))
        return sorted(cards, key=lambda card: (card.created, card.version))

    def names(self) -> list[str]:
        """Return the names that have versions."""
        self._place.check_format()
        return sorted({place.parent.parent.name for place in self._place.find_cards()})

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
        self._place.check_format()
        name, at, number = text.partition("@")
        if at:
            if not number.isdecimal():
                raise ConfigError(f"{text!r} is not NAME@NUMBER: {number!r} is not a number.")
            return self.at_number(name, int(number)).version
        digits = len(text) >= 4 and set(text) <= set("0123456789abcdef")
        found = {place.stem for place in self._place.find_cards(text + "*")} if digits else set()
        if len(found) == 1:
            return found.pop()
        if found:
            raise ConfigError(
                f"{len(found)} versions in {self.folder} begin with {text!r}; write more digits."
            )
        if text in self.names():
            if (served := self.served(text)) is not None:
                return served.version
            raise ConfigError(
                f"Nothing is served under {text!r} in the registry {self.folder} yet; name a "
                f"version by the first digits of its hash: 'headrace models list {text}' shows "
                "them."
            )
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
        self._place.check_format()
        return list(self._history(name).read())

    def served(self, name: str) -> Served | None:
        """Return what is served under a name, None for nothing."""
        self._place.check_format()
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
                if not self.history(name) and name not in self.names():
                    raise ConfigError(
                        f"The registry {self.folder} has no model {name!r}; it has: "
                        f"{', '.join(self.names()) or 'none'}."
                    )
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
        with self._place.writing():
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
        place = self._place.card(name, wanted)
        if place.exists():
            self._verify(read_card(place))
        figures = {key: float(value) for key, value in (metrics or {}).items()}
        with self._place.writing():
            # Looked at under the lock: it may have been removed meanwhile.
            if not place.exists():
                raise ConfigError(
                    f"The version {wanted[:12]} was not stored under {name!r}; 'headrace models "
                    "list' shows under which name it was."
                )
            history = self._history(name)
            entries = history.read()
            if after is not None and after != len(entries):
                raise Overtaken(
                    f"The history of {name!r} has {len(entries)} entries by now, not {after}: "
                    "somebody else was faster. Judge again against what is served now."
                )
            if entries and entries[-1].version == wanted:
                return entries[-1]
            number = len(entries) + 1
            entry = Served(number, wanted, self._clock(), reason, kind, figures, author)
            history.append(entry)
            return entry

    def _store_contents(self, path: Path, packed: bytes, program: bytes | None) -> None:
        if program is not None:
            self._programs.store(program)
        if not path.exists():
            files.write_whole(path, packed)

    def _store_card(self, place: Path, card: Card) -> None:
        try:
            files.write_whole(place, encode_card(card))
        except HeadraceError:
            if not self._place.find_cards(card.version):
                self._place.tensors(card.version).unlink(missing_ok=True)
            raise

    def _verify(self, card: Card) -> None:
        from analytics.learning.registry import contents

        data = self._place.read_tensors(card.version)
        contents.unpack(data, card, self._place.tensors(card.version))
        self._programs.find(card.hyper)

    def _history(self, name: str) -> History:
        found = self._histories.get(name)
        if found is None:
            found = self._histories.setdefault(name, History(self._place.history(name)))
        return found

    def _prune(self, name: str) -> list[str]:
        served = {entry.version for entry in self._history(name).read()}
        gone = find_superfluous(self.cards(name), served, self.keep)
        remove(self._place, self._programs, name, gone)
        return gone
