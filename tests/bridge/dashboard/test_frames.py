"""Frames are read over a connection that lasts until the reader is closed, and no longer."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.dashboard.frames import FrameReader
from bridge.errors import StagingError
from bridge.staging import Stager, StagerClient
from sim_adapters.link import link


def test_a_reader_that_was_closed_connects_no_more() -> None:
    made: list[StagerClient] = []

    def connect() -> StagerClient:
        made.append(StagerClient(stager.address))
        return made[-1]

    with Stager() as stager:
        stager.start()
        with link("walker", stager=stager.address) as stream:
            stream.put(0, 0.0, x=np.arange(3.0))
        reader = FrameReader(connect)
        assert reader.newest("walker") == 0
        np.testing.assert_array_equal(
            reader.read("walker", 0, lambda v: {"x": v["x"].copy()}).values["x"], [0.0, 1.0, 2.0]
        )
        reader.close()
        # A thread that was asked before comes to it only now.
        assert reader.newest("walker") == -1
        with pytest.raises(StagingError, match="is being closed"):
            reader.read("walker", 0, dict)
        assert len(made) == 1
