"""The stream's own variables, brought to where only what operators added has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from bridge.engines.patience import PatientClient
from bridge.errors import StagingError
from bridge.frames import FrameBatch
from bridge.staging.client import Fetched

__all__ = ["with_variables"]

_WAIT = 0.25  # seconds that a fetch of frames which are there may take


@contextmanager
def with_variables(
    client: PatientClient, batch: FrameBatch, names: Sequence[str]
) -> Iterator[FrameBatch]:
    """Give a batch with variables of its frames read from staging; views, where possible.

    Parameters
    ----------
    client
        To the stagers.
    batch
        Some frames of one simulation, perhaps with others between them taken out.
    names
        Variables to add; those that the batch has already stay as they are.

    Raises
    ------
    StagingError
        If the frames are not held any more.
    """
    missing = [name for name in names if name not in batch.columns]
    if not missing or not len(batch):
        yield batch
        return
    topic = f"frames/{batch.simulation}"
    position, parts = batch.first, list[FrameBatch]()
    fetched: Fetched | None = None
    try:
        while position < batch.stop:
            if fetched is not None:
                parts = [part.copy() for part in parts]
                fetched.release()
            fetched = client.fetch({topic: position}, max_frames=batch.stop - position, wait=_WAIT)
            parts += [
                part.select(missing).take(slice(0, batch.stop - part.first))
                for part in fetched.batches
                if part.first < batch.stop
            ]
            after = fetched.positions.get(topic, position)
            if after == position or fetched.gaps:
                raise StagingError(
                    f"The frames {position} to {batch.stop - 1} of {batch.simulation!r}, which "
                    "global operators read, are not held any more. Begin anew, without the saved "
                    "state."
                )
            position = after
        whole = FrameBatch.concatenate(parts)
        if len(whole) != len(batch):
            whole = whole.take(np.searchsorted(whole.offsets, batch.offsets))
        yield batch.with_columns(whole.columns)
    finally:
        if fetched is not None:
            fetched.release()
