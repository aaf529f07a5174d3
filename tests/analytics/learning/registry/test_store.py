"""A registry as trainers, operators and people use it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.learning.registry import Registry
from bridge.errors import (
    ConfigError,
    CorruptData,
    HeadraceError,
    Overtaken,
    RegistryError,
    SchemaError,
    StorageFull,
    VersionMismatch,
)
from tests.analytics.learning.registry.tiny import KIND, Tiny, trained


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_a_version_comes_back_as_it_was(registry: Registry) -> None:
    model = trained((1.0, 2.0))
    model.prepare(torch.rand(10, 2))
    card = registry.add(
        "tiny",
        model,
        metrics={"score": -0.5, "odd": float("nan")},
        trained_on={"b": [(0, 10), (12, 20)], "a": [(5, 6)]},
        frames=19,
        updates=3,
        note="First.",
    )
    loaded = registry.load(card.version)
    assert msgspec.to_builtins(loaded.card) | {"metrics": 0} == msgspec.to_builtins(card) | {
        "metrics": 0
    }
    assert np.isnan(loaded.card.metrics["odd"])
    assert card.trained_on == {"a": [(5, 6)], "b": [(0, 10), (12, 20)]}
    assert (card.kind, card.input_shape, card.hyper) == (KIND, (2,), {"latent": 1})
    assert (card.parameters, card.nbytes, len(card.source)) == (2, 24, 16)
    assert not loaded.model.training
    x = torch.rand(5, 2)
    assert torch.equal(loaded.model.encode(x), model.encode(x))


def test_the_name_of_a_version_is_what_it_is(registry: Registry, tmp_path: Path) -> None:
    first = registry.add("tiny", trained((1.0, 2.0), seed=1), frames=5)
    # The same again, later and elsewhere: the same version, and the card from the first time.
    assert registry.add("tiny", trained((1.0, 2.0), seed=2), frames=9) == first
    assert Registry(tmp_path / "x").add("a", trained((1.0, 2.0))).version == first.version
    other = trained((1.0, 2.0))
    with torch.no_grad():
        other.weights[0, 0] += 1e-7
    assert registry.add("tiny", other).version != first.version
    deeper = Tiny((2,), latent=1, spare="x")
    deeper.load_state_dict(trained((1.0, 2.0)).state_dict())
    assert registry.add("tiny", deeper).version != first.version
    assert len(registry.cards("tiny")) == 3


def test_loading_uses_up_no_random_numbers(registry: Registry) -> None:
    card = registry.add("tiny", trained((1.0, 2.0)))
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    registry.load(card.version)
    assert torch.equal(torch.rand(3), expected)


def test_served_and_taken_back(registry: Registry) -> None:
    versions = [registry.add("tiny", trained((1.0, i))).version for i in range(3)]
    assert registry.served("tiny") is None
    assert registry.history("tiny") == []
    for version in versions:
        registry.promote("tiny", version, reason="It is better.", metrics={"score": 1.0})
    again = registry.promote("tiny", versions[2], reason="Once more.")
    assert (again.number, again.reason) == (3, "It is better.")
    assert registry.rollback("tiny", reason="It fell.").version == versions[1]
    assert registry.rollback("tiny", reason="It fell, too.").version == versions[0]
    with pytest.raises(ConfigError, match="nothing to go back to"):
        registry.rollback("tiny", reason="Once more.")
    registry.promote("tiny", versions[2], reason="Try again.")
    assert registry.predecessor("tiny").version == versions[0]  # type: ignore[union-attr]
    registry.rollback("tiny", reason="To one by name.", to=versions[1][:12], author="Ada")
    history = Registry(registry.folder).history("tiny")
    assert [versions.index(one.version) for one in history] == [0, 1, 2, 1, 0, 2, 1]
    assert [one.number for one in history] == list(range(1, 8))
    assert (history[-1].author, history[-1].kind) == ("Ada", "rollback")
    assert registry.at_number("tiny", 3).version == versions[2]
    with pytest.raises(ConfigError, match="there is no number 8"):
        registry.at_number("tiny", 8)


def test_a_reader_hears_of_a_promotion_by_the_token(registry: Registry) -> None:
    reader = Registry(registry.folder)
    card = registry.add("tiny", trained((1.0, 2.0)))
    before = reader.token("tiny")
    assert reader.served("tiny") is None
    registry.promote("tiny", card.version, reason="First.")
    assert reader.token("tiny") != before
    assert reader.served("tiny").version == card.version  # type: ignore[union-attr]
    assert reader.token("tiny") == registry.token("tiny")


def test_who_comes_second_is_told(registry: Registry) -> None:
    a, b = (registry.add("tiny", trained((1.0, i))).version for i in range(2))
    registry.promote("tiny", a, reason="First.", after=0)
    with pytest.raises(Overtaken, match="has 1 entries by now, not 0"):
        registry.promote("tiny", b, reason="First, too.", after=0)
    assert len(registry.history("tiny")) == 1


def test_ways_to_name_a_version(registry: Registry) -> None:
    a, b = (registry.add("tiny", trained((1.0, i))).version for i in range(2))
    registry.promote("tiny", a, reason="First.")
    registry.promote("tiny", b, reason="Better.")
    assert registry.resolve(a[:8]) == registry.resolve("tiny@1") == registry.resolve(a) == a
    assert registry.resolve("tiny") == registry.card("tiny@2").version == b
    assert registry.names() == ["tiny"]
    for wrong in ("", "*", "no", "cafe", "tiny@x", "tiny@3", "../tiny@1", a[:8] + "*", "f" * 64):
        with pytest.raises((ConfigError, SchemaError)) as caught:
            registry.card(wrong)
        assert str(caught.value).endswith(".")


def test_names_that_serve_nothing_are_told(registry: Registry) -> None:
    registry.add("tiny", trained((1.0, 2.0)))
    with pytest.raises(ConfigError, match=r"Nothing is served under 'tiny' .* yet; name a version"):
        registry.card("tiny")
    with pytest.raises(ConfigError, match="has no model 'tyni'; it has: tiny"):
        registry.rollback("tyni", reason="It fell.")
    with pytest.raises(ConfigError, match="there is nothing to go back to"):
        registry.rollback("tiny", reason="It fell.")


def test_what_is_refused(registry: Registry) -> None:
    card = registry.add("tiny", trained((1.0, 2.0)))
    with pytest.raises(SchemaError, match="name of a model"):
        registry.add("../tiny", trained((1.0, 2.0)))
    with pytest.raises(ConfigError, match="give a reason"):
        registry.promote("tiny", card.version, reason=" ")
    with pytest.raises(ConfigError, match="was not stored under 'other'"):
        registry.promote("other", card.version, reason="Why not.")
    with pytest.raises(ConfigError, match="was never served"):
        registry.rollback("tiny", reason="Why not.", to=card.version)
    with pytest.raises(ConfigError, match="must be plain data"):
        registry.add("tiny", Tiny((2,), thing=object()))
    with pytest.raises(ConfigError, match="keeps at least one"):
        Registry(registry.folder, keep=0)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(ConfigError, match=r"not a registry of models: it holds 'thesis\.tex'"):
        Registry(tmp_path).add("tiny", trained((1.0, 2.0)))
    assert Registry(tmp_path).names() == []


def test_old_versions_that_were_never_served_go(registry: Registry) -> None:
    few = Registry(registry.folder, keep=2)
    versions = [few.add("tiny", trained((1.0, 0.0))).version]
    few.promote("tiny", versions[0], reason="First.")
    few.add("other", trained((1.0, 1.0)))
    for i in range(1, 7):
        versions.append(few.add("tiny", trained((1.0, i)), parent=versions[-1]).version)
    kept = [card.version for card in few.cards("tiny")]
    # Two of the newest, what the older of them learned on from, and what is served.
    assert kept == [versions[0], *versions[4:]]
    stored = {path.stem for path in (few.folder / "versions").iterdir()}
    # What another name still holds stays.
    assert stored == {*kept, versions[1]}
    assert few.load("other" if few.served("other") else versions[1]).card.name == "other"


def test_a_program_is_stored_with_the_version(registry: Registry, tmp_path: Path) -> None:
    program = tmp_path / "mine.pt2"
    program.write_bytes(b"program")
    few = Registry(registry.folder, keep=1)
    card = few.add("tiny", Tiny((2,), program=str(program)))
    assert card.hyper["program"].startswith("sha256:")
    program.unlink()
    loaded = few.load(card.version)
    stored = Path(loaded.model.hyper["program"])
    assert stored.read_bytes() == b"program"
    # What was loaded and is stored again is the same version.
    assert few.add("tiny", loaded.model).version == card.version
    stored.write_bytes(b"pr0gram")
    with pytest.raises(CorruptData, match="another hash"):
        few.load(card.version)
    few.add("tiny", trained((1.0, 1.0)))
    # New enough to be somebody's who is about to store a card for it.
    assert stored.exists()
    os.utime(stored, (0, 0))
    assert few.prune("tiny") == []
    assert not stored.exists()


def test_a_newer_format_is_refused(registry: Registry) -> None:
    card = registry.add("tiny", trained((1.0, 2.0)))
    (registry.folder / "registry.json").write_text('{"headrace_registry": 2}')
    for act in (
        lambda r: r.served("tiny"),
        lambda r: r.load(card.version),
        lambda r: r.add("tiny", trained((1.0, 1.0))),
    ):
        with pytest.raises(VersionMismatch, match=r"has the format 2; .* knows 1\. Update"):
            act(Registry(registry.folder))
    (registry.folder / "registry.json").write_text("1")
    with pytest.raises(CorruptData, match="is damaged or is something else"):
        Registry(registry.folder).names()


def test_a_newer_card_is_refused(registry: Registry) -> None:
    card = registry.add("tiny", trained((1.0, 2.0)))
    path = next(registry.folder.glob("names/*/cards/*.json"))
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(VersionMismatch, match="Update Headrace"):
        registry.card(card.version)


def test_code_that_does_not_fit_any_more_is_told(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = registry.add("tiny", trained((1.0, 2.0)))
    before = Tiny.__init__

    def grown(self: Tiny, input_shape: tuple[int, ...], **hyper: object) -> None:
        before(self, input_shape, **hyper)
        self.more = torch.nn.Linear(1, 1)

    monkeypatch.setattr(Tiny, "__init__", grown)
    with pytest.raises(CorruptData, match="does not fit the code of its kind"):
        registry.load(card.version)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = _healthy(tmp_path_factory)
    registry = Registry(folder)
    version = registry.served("tiny").version  # type: ignore[union-attr]
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size]
    path = data.draw(st.sampled_from(paths))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        broken = whole[:at]
    else:
        flipped = whole[at] ^ data.draw(st.integers(1, 255))
        broken = whole[:at] + bytes([flipped]) + whole[at + 1 :]
    path.write_bytes(broken)
    said = _try_out(folder, version)
    path.write_bytes(whole)
    # Either nothing that counts is lost (a blank of a card, a last line) or it is told, and where.
    assert said is None or (said.endswith(".") and str(folder) in said), said


def _try_out(folder: Path, version: str) -> str | None:
    """Return the error of using what is there, None if it is sound."""
    try:
        fresh = Registry(folder)
        served = fresh.served("tiny")
        loaded = None if served is None else fresh.load(served.version)
    except HeadraceError as error:
        return str(error)
    if loaded is not None:
        assert loaded.card.version == version
        assert torch.equal(loaded.model.state_dict()["weights"], trained((1, 2)).weights)
    return None


def _healthy(factory: pytest.TempPathFactory) -> Path:
    folder = factory.getbasetemp() / "healthy"
    if not folder.exists():
        registry = Registry(folder)
        card = registry.add("tiny", trained((1, 2)), metrics={"score": 1.0}, note="Sound.")
        registry.promote("tiny", card.version, reason="First.")
    return folder


def test_one_damaged_card_does_not_stop_the_rest(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    few = Registry(registry.folder, keep=1)
    broken = few.add("tiny", trained((1.0, 0.0))).version
    path = registry.folder / f"names/tiny/cards/{broken}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    for i in range(1, 4):
        last = few.add("tiny", trained((1.0, i))).version
    assert [card.version for card in few.cards("tiny")] == [last]
    assert f"The card {path} is damaged" in caplog.text
    with pytest.raises(CorruptData, match="is damaged"):
        few.load(broken)
    few.promote("tiny", last, reason="It is sound.")
    path.write_bytes(whole)
    few.load(broken)


def test_tensors_that_are_gone_are_told(registry: Registry) -> None:
    card = registry.add("tiny", trained((1.0, 2.0)))
    next(registry.folder.glob("versions/*")).unlink()
    with pytest.raises(CorruptData, match="are gone"):
        registry.load(card.version)
    with pytest.raises(CorruptData, match="are gone"):
        registry.promote("tiny", card.version, reason="Why not.")
    # Whoever has the model still can put it back.
    registry.add("tiny", trained((1.0, 2.0)))
    registry.load(card.version)


def test_a_torn_last_line_does_not_count_and_is_mended(registry: Registry) -> None:
    a, b = (registry.add("tiny", trained((1.0, i))).version for i in range(2))
    registry.promote("tiny", a, reason="First.")
    path = registry.folder / "names/tiny/history.jsonl"
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        assert [one.version for one in Registry(registry.folder).history("tiny")] == [a]
    Registry(registry.folder).promote("tiny", b, reason="Better.")
    assert [one.version for one in registry.history("tiny")] == [a, b]
    assert path.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("allowed", [0, 1, 100, 1000])
def test_a_full_disk_leaves_nothing_half_made(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    a, b = (registry.add("tiny", trained((1.0, i))).version for i in range(2))
    registry.promote("tiny", a, reason="First.")
    before = {p: p.read_bytes() for p in registry.folder.rglob("*") if p.is_file()}
    write, left = os.write, allowed

    def fills_up(descriptor: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(descriptor, bytes(data)[:left])
        left -= done
        return done

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(StorageFull, match="no space left on device"):
        registry.add("tiny", trained((1.0, 5.0)))
    left = min(allowed, 100)
    with pytest.raises(StorageFull, match="no space left on device"):
        registry.promote("tiny", b, reason="Better.")
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in registry.folder.rglob("*") if p.is_file()} == before
    registry.add("tiny", trained((1.0, 5.0)))
    assert registry.promote("tiny", b, reason="Better.").number == 2


def test_a_lock_that_is_not_given_back_is_told(tmp_path: Path) -> None:
    from analytics.learning.registry.files import lock

    with (
        lock(tmp_path / "lock"),
        pytest.raises(RegistryError, match=r"Waited 0 s for the lock .* another process has it"),
        lock(tmp_path / "lock", timeout=0.0),
    ):
        pass
    with lock(tmp_path / "lock"):
        pass
