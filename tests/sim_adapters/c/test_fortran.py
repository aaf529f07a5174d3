"""A Fortran program streams and is steered through the module ``headrace``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridge import Acknowledgement, Command
from bridge.codec import encode_state
from bridge.staging import Stager, StagerClient
from sim_adapters.c import directory, libraries
from tests.sim_adapters.c.common import finish, run
from tests.sim_adapters.c.test_infer import serving
from tests.sim_adapters.common import read_stream, wait_until

pytestmark = pytest.mark.skipif(not shutil.which("gfortran"), reason="There is no gfortran.")


FLAGS = ["-g", "-O1", "-Wall", "-Werror", "-fsanitize=address,undefined"]


@pytest.fixture(scope="module")
def fortran(library: Path) -> Path:
    fflags = f"FFLAGS={' '.join(FLAGS)}"
    run(["make", "-s", "-C", str(directory()), f"BUILD={library}", fflags, "fortran"])
    return library


def build(library: Path, name: str) -> Path:
    here, out = Path(__file__).parent, library / f"{name}_fortran"
    run(
        ["gfortran", "-std=f2018", *FLAGS, f"-I{library}", f"-J{library}",
         str(here / f"{name}.f90"), "-o", str(out), str(library / "libheadrace_fortran.a"),
         str(library / "libheadrace.a"), *libraries()]
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def program(fortran: Path) -> Path:
    return build(fortran, "sim")


def test_rows_are_answered_or_left_to_the_simulation(stager: Stager, fortran: Path) -> None:
    program = str(build(fortran, "asks"))
    with serving(stager.address) as service:
        out = run([program, stager.address, "square"]).splitlines()
    assert out[0] == "0 3 5 T T T .00 .25 1.00 2.25 []"
    assert out[1] == "0 2 5 T T F 1.00 2.25 4.00 6.25 [x is above 3.]"
    assert out[2] == "The input 'z' has 2 rows; those before have 3."
    assert (service.statistics.requests, service.statistics.refused) == (2, 0)


def test_frames_and_commands(
    stager: Stager, client: StagerClient, send: Callable[[Command], None], program: Path
) -> None:
    process = subprocess.Popen(
        [program, stager.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: any(t.end > 3 for t in client.topics("frames/f")), "frames")
        evidence = {"weight": 1.5}
        send(Command("set", "f", "a", parameter="F", value=0.25, reason="Less.", evidence=evidence))
        send(Command("set", "f", "b", parameter="F", value=0.95))
        send(Command("set", "f", "c", parameter="F", value=1.5))
        send(Command("restart", "f", "d", state=encode_state({"x": np.arange(6)})))
        wait_until(lambda: any(t.end == 4 for t in client.topics("acks/f")), "answers")
        send(Command("stop", "f", "e"))
        out = finish(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    with client.fetch({"acks/f": 0}) as got:
        read = [msgspec.msgpack.decode(r.data, type=Acknowledgement) for r in got.records]
    told = {a.command: a for a in read}
    outcomes = {k: told[k].outcome for k in "abcde"}
    assert outcomes == {"a": "applied", "b": "refused", "c": "refused", "d": "applied",
                        "e": "applied"}  # fmt: skip
    assert told["b"].reason == "It is too much."
    lines = out.splitlines()
    assert lines[0].startswith("The simulation 'not a name' is not a valid name")
    assert lines[1] == "opened 1 0 -1"
    assert f"set a F Less.  1.5 {told['a'].step}" in lines
    assert "restart d  0.0  1.0  2.0  3.0  4.0  5.0" in lines
    found, schema = read_stream(client, "f"), client.schema("f")
    assert lines[-1] == f"end {len(found)} 3"
    assert [(v.name, v.dtype, v.shape) for v in schema.variables] == [
        ("u", "<f8", (5, 4, 3)),
        ("F", "<f8", ()),
        ("counts", "<i4", (2,)),
    ]
    assert (schema.time_unit, schema.attributes) == ("s", {"code": "Fortran"})
    assert schema.variable("u").unit == "mol/l"
    k, j, i = np.meshgrid(*(np.arange(1, n + 1) for n in (5, 4, 3)), indexing="ij")
    expected = found.steps[:, None, None, None] + i + 10 * j + 100 * k
    np.testing.assert_array_equal(found["u"], expected)
    np.testing.assert_array_equal(found["counts"], np.stack([found.steps, 2 * found.steps], 1))
    assert set(found["F"][found.steps > told["a"].step]) == {0.25}
    assert set(found.epochs[found.steps > told["d"].step]) == {1}
