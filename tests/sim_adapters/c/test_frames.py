"""Frames of a C program, through mapped segments and sockets, as Python reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge import FrameBatch
from bridge.staging import Stager, StagerClient
from tests.sim_adapters.c.common import Simulate, Start, finish
from tests.sim_adapters.common import read_stream


def expected(steps: np.ndarray, rows: int) -> np.ndarray:
    """Return what sim.c puts as x, shape (steps, rows, 3), float32."""
    at = steps[:, None, None] + np.arange(rows)[:, None] / 1000 + np.arange(3) / 8
    return at.astype(np.float32)


def check(found: FrameBatch, steps: int, rows: int, every: int = 1) -> None:
    assert found.steps.tolist() == list(range(0, steps, every))
    np.testing.assert_array_equal(found.times, 0.5 * found.steps)
    np.testing.assert_array_equal(found["x"], expected(found.steps, rows))
    assert set(found["F"].tolist()) == {1.0}


@pytest.mark.parametrize("mapped", ["yes", "no", "auto"])
@pytest.mark.parametrize(("steps", "rows"), [(6000, 7), (40, 60_000), (3, 0)])
def test_frames_small_and_large(
    stager: Stager, client: StagerClient, simulate: Simulate, mapped: str, steps: int, rows: int
) -> None:
    out = simulate("w", stager=stager.address, steps=steps, rows=rows, mapped=mapped)
    assert f"frames={steps} acknowledged={steps} dropped=0/0 reconnects=0" in out
    assert out.startswith(f"opened 1 0 -1 {0 if mapped == 'no' else 1}\n")
    check(read_stream(client, "w"), steps, rows)


def test_schema_capabilities_and_options(
    stager: Stager, client: StagerClient, simulate: Simulate
) -> None:
    simulate("w", stager=stager.address, time_unit="ps", selection="Cα", capacity=1 << 22, every=5)
    schema, status = client.schema("w"), client.status("frames/w")
    assert [(v.name, v.dtype, v.shape, v.unit) for v in schema.variables] == [
        ("x", "<f4", (4, 3), "nm"),
        ("F", "<f8", (), ""),
    ]
    assert (schema.time_unit, schema.selection, schema.attributes) == ("ps", "Cα", {"code": "test"})
    assert status.options.capacity == 1 << 22
    assert status.finished
    first = status.capabilities[0]
    assert (first.kind, first.parameter, first.maximum, first.unit) == ("set", "F", 10.0, "1/s")
    assert [c.kind for c in status.capabilities] == (
        ["set", "set", "restart", "pause", "resume", "stop", "interval"]
    )
    assert read_stream(client, "w").steps.tolist() == [0, 5]


@pytest.mark.parametrize("mapped", ["yes", "no"])
@pytest.mark.parametrize("ids", [0, 1])
@pytest.mark.parametrize("ranks", [1, 3])
def test_blocks_of_several_ranks(
    stager: Stager, client: StagerClient, start: Start, ranks: int, ids: int, mapped: str
) -> None:
    processes = [
        start("w", stager=stager.address, ranks=ranks, rank=r, ids=ids, rows=9, steps=50,
              mapped=mapped, selection="all")
        for r in range(ranks)
    ]  # fmt: skip
    for process in processes:
        finish(process)
    found = read_stream(client, "w")
    assert client.schema("w").n_ranks == ranks
    check(found, 50, 9)


def test_a_second_life_goes_on_where_the_first_ended(
    stager: Stager, client: StagerClient, simulate: Simulate
) -> None:
    simulate("w", stager=stager.address, steps=5, finished=0)
    assert not client.status("frames/w").finished
    out = simulate("w", stager=stager.address, steps=5)
    assert out.startswith("opened 2 5 4 1\n")
    found = read_stream(client, "w")
    assert found.steps.tolist() == list(range(10))
    assert found.epochs.tolist() == [0] * 5 + [1] * 5


def test_the_stager_that_announced_itself(stager: Stager, client: StagerClient, simulate: Simulate,
                                          tmp_path: Path) -> None:  # fmt: skip
    from bridge.staging.rendezvous import publish

    publish(tmp_path, stager.address)
    simulate("w", run_directory=tmp_path)
    assert len(read_stream(client, "w")) == 10


def test_of_several_stagers_the_owner_is_taken(simulate: Simulate) -> None:
    from bridge.staging.spread import SpreadClient

    with Stager() as one, Stager() as two:
        addresses = [one.start().address, two.start().address]
        for name in ("a", "b", "c", "d", "e"):
            simulate(name, stager=",".join(addresses), steps=3)
        with SpreadClient(addresses) as client:
            for name in ("a", "b", "c", "d", "e"):
                assert len(read_stream(client, name)) == 3  # type: ignore[arg-type]
