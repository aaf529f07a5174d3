"""What cannot be made closes what it had opened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.codec import encode_state
from bridge.engines.coordinator import Coordinator
from bridge.engines.in_situ import InSitu
from bridge.engines.job import Job
from bridge.engines.partition import PartitionStage
from bridge.errors import ConfigError, ProtocolError
from bridge.pipeline import Pipeline
from bridge.schema import StreamSchema, Variable
from bridge.staging import Stager
from bridge.staging.client_like import ClientLike
from bridge.transports.context import open_ends
from tests.bridge.engines.pipelines import Failing, make_pipeline


class Unmade(Failing):
    """An operator of which there cannot be a second one."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Unmade:
        raise ConfigError("It cannot be made here.")


def refuse(connect: Callable[[str], ClientLike]) -> Any:
    connect("guard")
    connect("desk")
    raise ConfigError("Its rules do not fit.")


@pytest.fixture
def address() -> Iterator[str]:
    with Stager() as stager:
        yield stager.start().address


def test_stages_of_a_job(address: str) -> None:
    before = set(open_ends)
    job = Job(Pipeline("test", [("unmade", Unmade(()))]), address)
    with pytest.raises(ConfigError, match="cannot be made"):
        PartitionStage(job)
    job = Job(make_pipeline(), address)
    saved = encode_state({"version": 0})
    with pytest.raises(ProtocolError, match="begin anew without it"):
        Coordinator(job, engine="test", saved=saved)
    job = Job(make_pipeline(), address, guard=refuse)
    with pytest.raises(ConfigError, match="do not fit"):
        Coordinator(job, engine="test")
    assert set(open_ends) == before


def test_an_engine_in_the_process_of_its_simulation() -> None:
    before = {t.ident for t in threading.enumerate()}
    schema = StreamSchema((Variable("x", "<f8", (3,)),))
    with pytest.raises(ConfigError, match="cannot be made"):
        InSitu(make_pipeline(("unmade", Unmade(()))), "a", schema)
    assert {t.ident for t in threading.enumerate()} <= before
