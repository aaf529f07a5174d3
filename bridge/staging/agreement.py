"""What producers of one stream must agree about: what frames are made of, and how they are kept."""

from __future__ import annotations

import msgspec

from bridge.errors import SchemaError, StorageFull
from bridge.schema import StreamSchema
from bridge.staging.layout import chunk_layout
from bridge.staging.messages import OpenStream, StreamOptions

__all__ = ["check_capacity", "check_options", "describe", "is_same_layout", "job_of"]


def is_same_layout(a: StreamSchema, b: StreamSchema) -> bool:
    """Return whether frames of two schemas lie alike; what is said for people may differ."""
    return a is b or (
        a.n_ranks == b.n_ranks
        and [msgspec.structs.replace(v, description="") for v in a.variables]
        == [msgspec.structs.replace(v, description="") for v in b.variables]
    )


def describe(schema: StreamSchema) -> str:
    """Return the variables of a schema, for a message."""
    variables = ", ".join(f"{v.name} {v.dtype}{list(v.shape)} {v.unit}" for v in schema.variables)
    return f"{variables.strip()} from {schema.n_ranks} rank(s)"


def check_options(topic: str, request: OpenStream, there: StreamOptions) -> None:
    """Hold what a rank asks for against what the ranks before it asked for.

    Raises
    ------
    SchemaError
        If they differ; the message names the values of both.
    """
    asked = request.options
    unlike = [
        name
        for name in StreamOptions.__struct_fields__
        if getattr(asked, name) != getattr(there, name)
    ]
    if unlike:
        mine = ", ".join(f"{name} = {getattr(asked, name)!r}" for name in unlike)
        theirs = ", ".join(f"{name} = {getattr(there, name)!r}" for name in unlike)
        raise SchemaError(
            f"Rank {request.rank} opens {topic} with {mine}; the ranks before it opened it with "
            f"{theirs}. Give all ranks of a simulation the same options."
        )


def check_capacity(topic: str, request: OpenStream) -> None:
    """See that a stream has room for what must be there at once.

    Raises
    ------
    StorageFull
        If not two frames fit.
    """
    capacity, schema = request.options.capacity, request.schema
    if capacity < 2 * chunk_layout(schema, 1).nbytes:
        raise StorageFull(
            f"The capacity of {topic} is {capacity} bytes; it must hold at least two frames of "
            f"{schema.frame_nbytes} bytes."
        )


def job_of(token: str) -> str:
    """Return the word that ranks of one job have in common: what is before a colon."""
    return token.rpartition(":")[0]
