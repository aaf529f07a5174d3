"""Options of the data source and of the sink ``headrace``, as Spark hands them over: text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bridge.errors import ConfigError
from bridge.staging.client_like import ClientLike
from bridge.staging.keys import load_keys
from bridge.staging.spread import connect

__all__ = ["SinkOptions", "SourceOptions"]

_IGNORED = {"path", "checkpointlocation", "queryname"}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def _parse(kind: type[Any], options: Mapping[str, str]) -> dict[str, Any]:
    known = {_camel(f.name).lower(): f for f in fields(kind)}
    out: dict[str, Any] = {}
    for key in options:
        text = str(options[key])
        field = known.get(key.lower())
        if field is None:
            if key.lower() in _IGNORED:
                continue
            near = difflib.get_close_matches(key.lower(), known, 1)
            hint = f"Did you mean {_camel(known[near[0]].name)!r}?" if near else (
                f"There are: {', '.join(_camel(f.name) for f in fields(kind))}."
            )  # fmt: skip
            raise ConfigError(f"The format headrace has no option {key!r}. {hint}")
        out[field.name] = _value(_camel(field.name), type(field.default), text)
    if not out.get("stager"):
        raise ConfigError(
            "The format headrace needs the option 'stager': the address of the stager, such as "
            "tcp://127.0.0.1:5555, or several separated by commas."
        )
    return out


def _value(name: str, kind: type[Any], text: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"The option {name!r} is true or false, not {text!r}.")
        return text.lower() == "true"
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        value = kind(text)
    except ValueError as error:
        raise ConfigError(f"The option {name!r} is a number, not {text!r}.") from error
    if kind is not str and value < 0:
        raise ConfigError(f"The option {name!r} must not be negative; it is {text}.")
    return value


class _Connected:
    """What both kinds of options have: the way to the stagers."""

    stager: str
    keys: str
    timeout: float

    def connect(self, name: str) -> ClientLike:
        """Connect to the stagers."""
        keys = None
        if self.keys:
            folder = Path(self.keys)
            keys = load_keys(folder)
        return connect(self.stager, name=name, keys=keys, timeout=self.timeout)


@dataclass(frozen=True)
class SourceOptions(_Connected):
    """Options of ``read`` and ``readStream``; in Spark they are written ``likeThis``.

    Parameters
    ----------
    stager
        Address of the stager, or several separated by commas.
    simulations
        Names, or patterns such as ``walker*``, separated by commas.
    variables
        Names of variables, separated by commas; by default those of the first stream.
    group
        Consumer group under which what Spark has done with is released.
    starting_offsets
        Where a new query begins in each stream: ``earliest``, ``latest`` (the streams that are
        there; those that come later are read from their beginning), or ``committed`` by the group.
    max_frames_per_batch, max_bytes_per_batch
        How much to read in one micro-batch, shared out fairly over the streams; 0 for all.
    start, stop
        For ``read``: offsets to read from and up to, in each stream; a `stop` of 0 is the end.
    fail_on_data_loss
        Fail if frames were released before they were read; else an event tells of the gap.
    partitions
        Tasks to split a large read into.
    bytes_per_task
        A read is not split into tasks of fewer bytes than this.
    wait
        Seconds to wait for the first stream, from which the types of the columns are known.
    keys
        Folder with ``client.key`` and ``stager.pub``, the same on all workers.
    timeout
        Seconds without an answer of the stager after which a read fails.
    """

    stager: str = ""
    simulations: tuple[str, ...] = ("*",)
    variables: tuple[str, ...] = ()
    group: str = ""
    starting_offsets: str = "earliest"
    max_frames_per_batch: int = 0
    max_bytes_per_batch: int = 0
    start: int = 0
    stop: int = 0
    fail_on_data_loss: bool = True
    partitions: int = 2
    bytes_per_task: int = 8 << 20
    wait: float = 10.0
    keys: str = ""
    timeout: float = 10.0

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> SourceOptions:
        """Read what Spark hands over.

        Raises
        ------
        ConfigError
            If an option is unknown, missing, or out of bounds.
        """
        made = cls(**_parse(cls, options))
        if made.starting_offsets not in ("earliest", "latest", "committed"):
            raise ConfigError(
                "The option 'startingOffsets' is earliest, latest or committed, not "
                f"{made.starting_offsets!r}."
            )
        if made.starting_offsets == "committed" and not made.group:
            raise ConfigError(
                "With startingOffsets = committed, the option 'group' says whose offsets."
            )
        return made

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Return those of the simulations that are to be read."""
        patterns = self.simulations or ("*",)
        return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


@dataclass(frozen=True)
class SinkOptions(_Connected):
    """Options of ``write`` and ``writeStream``.

    Parameters
    ----------
    stager
        Address of the stager, or several separated by commas.
    name
        Under which results are read again, as if they were those of a pipeline of that name.
    keys, timeout
        As for `SourceOptions`.
    """

    stager: str = ""
    name: str = ""
    keys: str = ""
    timeout: float = 10.0

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> SinkOptions:
        """Read what Spark hands over.

        Raises
        ------
        ConfigError
            If an option is unknown, missing, or out of bounds.
        """
        made = cls(**_parse(cls, options))
        if not made.name:
            raise ConfigError(
                "The sink headrace needs the option 'name': results are stored as "
                "results/<name>/<simulation>."
            )
        return made
