"""Gray-Scott in C++ and Fortran with MPI: the same field on any ranks, and steered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridge import Acknowledgement, Command, FrameBatch
from bridge.staging import Stager, StagerClient
from bridge.steering import Desk, read_ledger
from sim_adapters.c import directory
from tests.sim_adapters.c.common import finish, run
from tests.sim_adapters.common import read_stream, wait_until, wait_until_full

EXAMPLE = Path(__file__).parents[3] / "examples" / "gray_scott_c"
# Open MPI would refuse to run as root, and on fewer cores than ranks.
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}
LANGUAGES = ("cpp", "f")

Start = Callable[..., "subprocess.Popen[str]"]


def compilers() -> dict[str, tuple[str, Path]]:
    """Return for each language its compiler and the mpiexec that goes with it."""
    found = {}
    for language, name in (("cpp", "mpicxx"), ("f", "mpif90")):
        path = shutil.which(name)
        if path is not None and Path(path).with_name("mpiexec").exists():
            found[language] = (path, Path(path).with_name("mpiexec"))
    # PyPI's MPICH compiles C alone; told of another compiler it takes C++ as well.
    beside = Path(sys.executable).with_name("mpicc")
    if "cpp" not in found and beside.exists() and shutil.which("g++"):
        found["cpp"] = (f"{beside} -cc=g++", beside.with_name("mpiexec"))
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return for each language how its program is started, but for the number of ranks."""
    build = tmp_path_factory.mktemp("gray_scott")
    words = {"cpp": "MPICXX", "f": "MPIFC"}
    out = {}
    for language, (compiler, mpiexec) in compilers().items():
        program = build / f"gray_scott_{language}"
        run(
            ["make", "-s", "-C", str(EXAMPLE), f"BUILD={build}", f"HEADRACE={directory()}",
             f"{words[language]}={compiler}", str(program)]
        )  # fmt: skip
        out[language] = [str(mpiexec), str(program)]
    return out


@pytest.fixture
def start(programs: dict[str, list[str]], stager: Stager) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def begin(language: str, ranks: int, **words: object) -> subprocess.Popen[str]:
        if language not in programs:
            pytest.skip("There is no MPI compiler for this language.")
        mpiexec, program = programs[language]
        options = {"stager": stager.address, "size": 12, **words}
        process = subprocess.Popen(
            [mpiexec, "-n", str(ranks), program, *(f"{k}={v}" for k, v in options.items())],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=20)


def reference(found: FrameBatch, feeds: np.ndarray) -> np.ndarray:
    """Return v after the last step, from the first frame, with the feed rate of each step."""
    u, v = found["u"][0].copy(), found["v"][0].copy()
    for feed in feeds:
        flow, spread = (
            sum(np.roll(f, s, axis) for axis in range(3) for s in (1, -1)) - 6.0 * f for f in (u, v)
        )
        reaction = u * v * v
        u, v = (
            u + 0.5 * (0.16 * flow - reaction + feed * (1.0 - u)),
            v + 0.5 * (0.08 * spread + reaction - (feed + 0.06) * v),
        )
    return v


def test_the_field_is_the_same_on_any_ranks_and_in_both_languages(
    client: StagerClient, start: Start
) -> None:
    fields = []
    for language in LANGUAGES:
        if language not in compilers():
            continue
        for ranks in (1, 2):
            name = f"{language}-{ranks}"
            assert "60 steps in" in finish(start(language, ranks, name=name, steps=60, every=10))
            found = read_stream(client, name)
            assert found.steps.tolist() == list(range(1, 61, 10))
            fields.append(found["v"])
    if not fields:
        pytest.skip("There is no MPI compiler.")
    assert np.ptp(fields[0][0]) > 0.1
    expected = reference(found, np.full(50, 0.03))
    np.testing.assert_allclose(fields[0][-1], expected, rtol=0.0, atol=1e-12)
    for field in fields[1:]:
        np.testing.assert_allclose(field, fields[0], rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_ranks_apply_a_command_at_the_same_step(
    client: StagerClient, send: Callable[[Command], None], start: Start, language: str
) -> None:
    # Nobody reads along: while a full stream held it back, it would hear of nothing but a stop.
    process = start(language, 2, name="w", steps=10**9, every=1, size=8, capacity=1 << 30)
    wait_until(lambda: any(t.end > 5 for t in client.topics("frames/w")), "frames")
    send(Command("set", "w", "feed", parameter="F", value=0.05))
    send(Command("set", "w", "much", parameter="F", value=0.5))
    wait_until(lambda: any(t.end == 2 for t in client.topics("acks/w")), "answers")
    send(Command("interval", "w", "rarely", value=1000.0))
    wait_until(lambda: any(t.end == 3 for t in client.topics("acks/w")), "answers")
    send(Command("stop", "w", "end"))
    finish(process)
    with client.fetch({"acks/w": 0}) as got:
        read = [msgspec.msgpack.decode(r.data, type=Acknowledgement) for r in got.records]
    told = {a.command: a for a in read}
    assert [told[k].outcome for k in ("feed", "much", "rarely", "end")] == (
        ["applied", "refused", "applied", "applied"]
    )
    found, at = read_stream(client, "w"), told["feed"].step
    assert set(found["F"][found.steps <= at]) == {0.03}
    assert set(found["F"][found.steps > at]) == {0.05}
    assert set(np.diff(found.steps[found.steps >= told["rarely"].step])) <= {1000}
    # The field of both ranks went on from that step with the new rate.
    near = found.take(found.steps <= min(at + 20, told["rarely"].step))
    feeds = np.where(near.steps[1:] <= at, 0.03, 0.05)
    np.testing.assert_allclose(near["v"][-1], reference(near, feeds), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_stop_ends_the_wait_of_all_ranks_for_room(
    stager: Stager, client: StagerClient, start: Start, language: str
) -> None:
    process = start(language, 2, name="w", steps=10**9, every=1, capacity=1 << 20)
    wait_until_full(client, 5)
    with Desk(lambda: StagerClient(stager.address)) as desk:
        [told] = desk.all("stop", author="Ada", key="all")
    assert told["verdict"] == "sent"
    finish(process)
    [line] = read_ledger(client)
    status = client.status("frames/w")
    assert (line.outcome, status.finished) == ("applied", True)
    # None, if the stop came before the put that there was no room for.
    assert status.dropped <= 1
    assert status.last_step < line.step
