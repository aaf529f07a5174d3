"""When the frames were put that caused decisions."""

from __future__ import annotations

import time
from uuid import uuid4

import numpy as np
import pytest

from bridge.runs import latency
from bridge.runs.latency import find_cause, read_put_times
from bridge.runs.report import summarise
from bridge.schema import StreamSchema
from bridge.staging import Producer, Stager, StagerClient
from bridge.steering import LedgerLine


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("pca/restart/walker-1@20#0", ("walker-1", 20)),
        ("pca/restart/set/one@7#3", ("set/one", 7)),
        ("pca/restart/mail@home@7#3", ("mail@home", 7)),
        ("pca/restart/another@7#3", None),
        ("pca/total/@7#3", None),
        ("person-1f3a", None),
        ("pca/restart/walker-1@end#0", None),
    ],
)
def test_the_cause_of_a_command_is_in_its_id(command: str, cause: tuple[str, int] | None) -> None:
    assert find_cause(command, {"walker-1", "set/one", "one", "mail@home"}) == cause


def test_the_stamps_are_those_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [LedgerLine(id=f"p/o/a@{offset}#0") for offset in range(12)]
    lines.append(LedgerLine(id="somebody"))
    with (
        Stager(f"memory://{uuid4().hex}").start() as stager,
        StagerClient(stager.address) as client,
    ):
        x = np.zeros((4, 3), np.float32)
        schema = StreamSchema.from_arrays({"x": x})
        before = time.time()
        with Producer("a", schema, address=stager.address) as producer:
            for step in range(10):
                producer.put(step, float(step), {"x": x})
        after = time.time()
        found = read_put_times(client, lines)
        monkeypatch.setattr(latency, "MOST", 3)
        # Those of the newest decisions: two are of frames that are not there.
        assert list(read_put_times(client, lines)) == ["p/o/a@9#0"]
    assert sorted(found) == sorted(f"p/o/a@{offset}#0" for offset in range(10))
    stamps = [found[f"p/o/a@{offset}#0"] for offset in range(10)]
    assert stamps == sorted(stamps)
    assert before <= stamps[0] <= stamps[-1] <= after


def test_durations_are_summarised() -> None:
    assert summarise([]) is None
    found = summarise([0.001 * n for n in range(1, 102)])
    assert found is not None
    assert found["count"] == 101
    assert found["median_s"] == pytest.approx(0.051)
    assert found["p99_s"] == pytest.approx(0.1)
    assert found["max_s"] == pytest.approx(0.101)
