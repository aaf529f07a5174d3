"""Promotions and rollbacks in any order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.learning.registry import Registry, Served
from analytics.learning.registry.history import History, predecessors
from bridge.errors import CorruptData


def entries_of(acts: list[int]) -> list[Served]:
    """Carry acts out as a registry does: promote a version, or go back (-1)."""
    entries: list[Served] = []
    for act in acts:
        before = predecessors(entries)
        if act < 0 and before:
            version, kind = before[-1].version, "rollback"
        elif act >= 0 and (not entries or entries[-1].version != str(act)):
            version, kind = str(act), "promotion"
        else:
            continue
        entries.append(Served(len(entries) + 1, version, 0.0, "So.", kind))  # type: ignore[arg-type]
    return entries


@given(st.lists(st.integers(-1, 3), max_size=30))
def test_going_back_ends_and_never_leads_forward(acts: list[int]) -> None:
    entries = entries_of(acts)
    depth = len(predecessors(entries))
    for left in range(depth, 0, -1):
        before = predecessors(entries)
        assert len(before) == left
        assert before[-1].version != entries[-1].version
        entries = back_once(entries)
        assert entries[-1].version == before[-1].version
    assert predecessors(entries) == []


def back_once(entries: list[Served]) -> list[Served]:
    """Go back once."""
    version = predecessors(entries)[-1].version
    return [*entries, Served(len(entries) + 1, version, 0.0, "So.", "rollback")]


@given(st.lists(st.integers(-1, 3), max_size=30))
def test_a_promotion_that_is_taken_back_leaves_what_was(acts: list[int]) -> None:
    entries = entries_of(acts)
    before = [one.version for one in predecessors(entries)]
    if not entries:
        return
    promoted = [*entries, Served(len(entries) + 1, "new", 0.0, "So.")]
    again = back_once(promoted)
    assert again[-1].version == entries[-1].version
    assert [one.version for one in predecessors(again)] == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [lines[0], lines[0]], "Line 2 .* it has the number 1"),
        (lambda lines: [lines[1]], "Line 1 .* it has the number 2"),
        (lambda lines: [b"", *lines], "Line 1 .* is damaged or is something else"),
        (lambda lines: [lines[0].replace(b"First", b"Best"), lines[1]], "checksum does not match"),
    ],
)
def test_lines_that_were_tampered_with_are_told(change: object, said: str, tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.append(Served(1, "a", 1.0, "First.", metrics={"score": float("nan")}))
    history.append(Served(2, "b", 2.0, "Second."))
    assert [one.reason for one in history.read()] == ["First.", "Second."]
    lines = history.path.read_bytes().splitlines()
    history.path.write_bytes(b"\n".join(change(lines)) + b"\n")  # type: ignore[operator]
    with pytest.raises(CorruptData, match=said):
        History(history.path).read()


def test_a_registry_that_is_not_there_serves_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "later")
    assert registry.token("m") == (0, 0, 0)
    assert registry.served("m") is None
    assert registry.names() == []
    assert registry.cards("m") == []
    assert not registry.folder.exists()
