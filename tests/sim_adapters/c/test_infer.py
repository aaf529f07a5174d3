"""A simulation in C asks a model."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import SchemaError
from bridge.staging import Stager, StagerClient
from bridge.staging.inference import InferenceService
from bridge.surrogate import Inferred
from tests.sim_adapters.c.common import run


class Square:
    """Answers x squared, for rows of x up to 3; NaN above."""

    def answer(self, inputs: Mapping[str, np.ndarray]) -> Inferred:
        if set(inputs) != {"x"}:
            raise SchemaError(f"The model takes 'x', not {sorted(inputs)}.")
        x = inputs["x"].astype(np.float32)
        valid = (x <= 3.0).reshape(len(x), -1).all(axis=1)
        rows = valid.reshape(-1, *[1] * (x.ndim - 1))
        y = np.where(rows, x * x, np.float32(np.nan))
        return Inferred({"y": y}, valid, 5, "" if valid.all() else "x is above 3.")


@contextmanager
def serving(address: str) -> Iterator[InferenceService]:
    over = threading.Event()
    with StagerClient(address) as client:
        service = InferenceService(client, "square", Square())
        thread = threading.Thread(target=service.run, args=(over.is_set,))
        thread.start()
        try:
            yield service
        finally:
            over.set()
            thread.join(30.0)


def test_rows_are_answered_or_left_to_the_simulation(
    compile_c: Callable[[str], Path], stager: Stager
) -> None:
    program = str(compile_c("asks"))
    with serving(stager.address) as service:
        out = run([program, stager.address, "square", "3", "60", "3"]).splitlines()
    assert out[0] == "0 3 5 [] 0 1 4"
    assert out[1] == "0 3 5 [] 1 4 9"
    assert out[2].replace("!-nan", "!nan") == "0 2 5 [x is above 3.] 4 9 !nan"
    assert out[3] == "-3 The input 'z' has 2 rows; those before have 3."
    assert (service.statistics.requests, service.statistics.refused) == (3, 0)


def test_large_requests(compile_c: Callable[[str], Path], stager: Stager) -> None:
    with serving(stager.address):
        out = run([str(compile_c("asks")), stager.address, "square", "300000", "60", "2"])
    first, second, _ = out.splitlines()
    assert first.startswith("0 4 5 [x is above 3.] 0 1 4 9 !")
    assert second.startswith("0 3 5 [x is above 3.] 1 4 9 !")


def test_nobody_answers(compile_c: Callable[[str], Path], stager: Stager) -> None:
    out = run([str(compile_c("asks")), stager.address, "square", "1", "0.1", "2"]).splitlines()
    assert out == [
        "2 0 0 [The service 'square' did not answer within 0.1 s; is it running?]",
        "2 0 0 [The service 'square' did not answer lately; it is asked again later.]",
    ]


@pytest.mark.parametrize(("service", "match"), [("a b", "'a b' is not a valid name")])
def test_bad_names(compile_c: Callable[[str], Path], stager: Stager, service, match) -> None:
    done = subprocess.run(
        [str(compile_c("asks")), stager.address, service, "1", "1", "1"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode in (1, 99)
    assert match in done.stderr
