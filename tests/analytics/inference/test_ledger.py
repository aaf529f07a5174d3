"""Which version answered which frames, as files tell it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.inference.ledger import SwapLedger
from bridge.errors import CorruptData


def rows(first: int, stop: int) -> np.ndarray:
    return np.arange(first, stop, dtype=np.int64)


def open_ledger(folder: Path) -> SwapLedger:
    return SwapLedger(folder, "pipeline", "infer")


def test_new_frames_get_what_is_in_service(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    assert ledger.claim("a", rows(0, 5), 0).tolist() == [0] * 5
    assert ledger.claim("a", rows(5, 8), 2).tolist() == [2] * 3
    assert ledger.claim("b", rows(0, 3), 2).tolist() == [2] * 3
    assert ledger.claim("a", rows(2, 10), 3).tolist() == [0, 0, 0, 2, 2, 2, 3, 3]
    ledger.close()
    ledger.close()


def test_numbers_never_fall(tmp_path: Path) -> None:
    open_ledger(tmp_path).claim("a", rows(0, 5), 4)
    # Another worker, which has not heard of number 4 yet.
    assert open_ledger(tmp_path).claim("a", rows(5, 9), 3).tolist() == [4] * 4


def test_workers_that_take_turns_see_what_the_other_wrote(tmp_path: Path) -> None:
    one, other = open_ledger(tmp_path), open_ledger(tmp_path)
    one.claim("a", rows(0, 5), 1)
    other.claim("a", rows(5, 10), 2)
    assert one.claim("a", rows(3, 12), 1).tolist() == [1, 1] + [2] * 7


def test_a_torn_record_is_written_over(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.claim("a", rows(0, 5), 1)
    ledger.close()
    path = tmp_path / "pipeline" / "infer" / "a.swaps"
    with path.open("ab") as file:
        file.write(b"torn in the middle"[:17])
    again = open_ledger(tmp_path)
    assert again.claim("a", rows(0, 7), 2).tolist() == [1] * 5 + [2] * 2
    again.close()
    assert open_ledger(tmp_path).claim("a", rows(0, 7), 3).tolist() == [1] * 5 + [2] * 2


@pytest.mark.parametrize("at", [0, 20])
def test_damage_is_told(tmp_path: Path, at: int) -> None:
    ledger = open_ledger(tmp_path)
    for number in range(3):
        ledger.claim("a", rows(number, number + 1), number + 1)
    ledger.close()
    path = tmp_path / "pipeline" / "infer" / "a.swaps"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptData, match=r"a\.swaps is damaged"):
        open_ledger(tmp_path).claim("a", rows(0, 3), 3)


def test_many_simulations_keep_few_files_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics.inference.ledger._OPEN", 3)
    ledger = open_ledger(tmp_path)
    for turn in range(3):
        for i in range(8):
            got = ledger.claim(f"s{i}", rows(4 * turn, 4 * turn + 4), turn + 1)
            assert got.tolist() == [turn + 1] * 4
    assert len(ledger._books) == 3


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5), st.booleans()), max_size=20))
def test_what_was_answered_once_is_answered_alike(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[int, int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger, told, number = open_ledger(folder), dict[int, int](), 0
    end = 0
    for back, forward, restart in turns:
        if restart:
            ledger.close()
            ledger = open_ledger(folder)
        number += back % 2
        first = max(0, end - back)
        stop = first + forward
        got = ledger.claim("a", rows(first, stop), number).tolist()
        for offset, value in zip(range(first, stop), got, strict=True):
            assert told.setdefault(offset, value) == value
        end = max(end, stop)
    assert [told[k] for k in sorted(told)] == sorted(told.values())
    ledger.close()
