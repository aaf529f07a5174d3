"""``headrace models`` as people and scripts meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analytics.learning.registry import Registry
from bridge.cli.main import main
from bridge.runs.records import read_events
from bridge.schema import StreamSchema, Variable
from bridge.staging.client import StagerClient
from bridge.staging.producer import Producer
from bridge.staging.stager import Stager
from tests.analytics.learning.registry.tiny import Tiny, trained

Told = Callable[..., Any]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Three versions of one model, of which the first was served, then the second."""
    monkeypatch.setenv("HEADRACE_REGISTRY", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "120")
    registry = Registry(tmp_path / "models")
    parent = ""
    for i in range(3):
        card = registry.add(
            "tiny", trained((1.0, i)), metrics={"score": -0.5 * i, "odd": float("nan")},
            trained_on={"walker": [(0, 100 * i + 1)]}, frames=100 * i, parent=parent,
            note=f"Take [{i}].",
        )  # fmt: skip
        parent = card.version
        if i < 2:
            registry.promote("tiny", parent, reason=f"Number {i} was good.", metrics={"score": 1})
    return registry


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Give a way to run the verb and read its JSON."""

    def told(*arguments: str) -> Any:
        assert main(["models", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return told


@pytest.fixture
def stager() -> Iterator[Stager]:
    """A stager that holds frames along the direction (1, 0)."""
    dice = np.random.default_rng(0)
    schema = StreamSchema((Variable("x", "<f4", (2,)), Variable("long", "<f4", (3,))))
    with Stager("memory://models").start() as stager:
        with Producer("walker", schema, address=stager.address) as producer:
            for i in range(300):
                x = np.array([dice.normal(), 0.1 * dice.normal()], np.float32)
                producer.put(i, float(i), {"x": x, "long": np.zeros(3, np.float32)})
        yield stager


def versions(registry: Registry) -> list[str]:
    return [card.version for card in registry.cards("tiny")]


def test_list(
    registry: Registry,
    told: Told,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b, c = versions(registry)
    (model,) = told("list")
    assert [one["version"] for one in model["versions"]] == [a, b, c]
    assert [one["served_as"] for one in model["versions"]] == [[1], [2], []]
    assert [one["served"] for one in model["versions"]] == [False, True, False]
    assert model["served"]["version"] == b
    assert model["versions"][0]["metrics"]["odd"] is None
    assert model["history"][0]["reason"] == "Number 0 was good."
    assert main(["models", "list", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert all(version[:12] in shown for version in (a, b, c))
    assert "served as 2" in shown
    assert "was 1" in shown
    assert "Take [2]." in shown
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["models", "list", "--history"]) == 0
    shown = capsys.readouterr().out
    assert "Number 1 was good." in shown
    assert f"  2  {b[:12]}  20" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_show(registry: Registry, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, _ = versions(registry)
    assert told("show", "tiny")["version"] == b
    assert told("show", "tiny@1", "--check") == {**told("show", a[:10]), "checked": True}
    assert told("show", a)["trained_on"] == {"walker": [[0, 1]]}
    assert main(["models", "show", b[:8], "--check"]) == 0
    shown = capsys.readouterr().out
    for part in (b, a, "0 to 100", "served as 2", "1 coordinates", "fit the code"):
        assert part in shown


def test_promote_and_rollback_are_told_in_the_log(
    registry: Registry, told: Told, stager: Stager
) -> None:
    a, _, c = versions(registry)
    done = told(
        "promote", c[:9], "--reason", "I saw it.", "--author", "Ada", "--tell", stager.address
    )
    assert done["changed"]
    assert done["told"]
    assert (done["served"]["version"], done["served"]["number"]) == (c, 3)
    assert not told("promote", c, "--reason", "Again.")["changed"]
    assert told("rollback", "tiny", "--reason", "It fell.")["served"]["number"] == 4
    done = told("rollback", "tiny", "--reason", "Further.", "--tell", stager.address)
    assert done["served"]["version"] == a
    assert registry.history("tiny")[2].author == "Ada"
    with StagerClient(stager.address) as client:
        events = [e for e in read_events(client) if e.kind in ("promoted", "rolled_back")]
    assert [event.kind for event in events] == ["promoted", "rolled_back"]
    assert events[0].message == (f"{c[:12]} is served as number 3 of 'tiny' from now on. I saw it.")
    assert events[0].data["by"] == "Ada"
    assert events[1].data["version"] == a


def test_a_log_that_cannot_be_told_is_told(
    registry: Registry, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    c = versions(registry)[2]
    code = main(["models", "promote", c, "--reason", "Why not.", "--tell", str(tmp_path / "no")])
    assert code == 1
    said = capsys.readouterr().err
    assert "is served as number 3 of 'tiny' from now on. But the log could not be told" in said
    assert len(registry.history("tiny")) == 3


def test_compare_by_the_cards(
    registry: Registry, told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, _ = versions(registry)
    registry.add("tiny", Tiny((2,), latent=2))
    other = versions(registry)[3]
    found = told("compare", a, b)
    assert found["descends"]
    assert found["differences"] == {"frames": [0, 100], "updates": [0, 0]}
    assert found["metrics"] == {"odd": [None, None], "score": [0.0, -0.5]}
    assert told("compare", a, other)["differences"]["hyper.latent"] == [1, 2]
    assert main(["models", "compare", a, b]) == 0
    assert "metric score" in capsys.readouterr().out


def test_what_is_long_is_not_cut_off(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["models", "show", "tiny"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert registry.resolve("tiny") in shown


def test_compare_on_frames(
    registry: Registry, told: Told, stager: Stager, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, _ = versions(registry)
    where = ["--on", stager.address, "--topic", "frames/walker", "--column", "x"]
    found = told("compare", a, b, *where, "--last", "200")["frames"]
    assert found["frames"] == 200
    assert found["scores"][0] > found["scores"][1]
    assert found["difference"] == pytest.approx(found["scores"][1] - found["scores"][0])
    assert found["at_least"] < found["difference"]
    assert found["correlations"][0] > 0.9
    assert main(["models", "compare", a, b, *where]) == 0
    shown = capsys.readouterr().out
    assert "On 300 frames of frames/walker the second scores -0." in shown
    assert "correlations of 0.9" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--registry", "nowhere"], "There is no registry of models in nowhere"),
        (["list", "big"], "has no model 'big'; it has: tiny"),
        (["show", "ffff"], "There is no version 'ffff'"),
        (["show", "tiny@9"], "there is no number 9"),
        (["promote", "tiny@1"], "--reason"),
        (["promote", "tiny@1", "--name", "big", "--reason", "x"], "was not stored under 'big'"),
        (["rollback", "big", "--reason", "x"], "has no model 'big'; it has: tiny"),
        (["compare", "tiny@1", "tiny@2", "--on", "x"], "Say which frames"),
        (
            ["compare", "tiny@1", "tiny@2", "--on", "memory://models", "--topic", "frames/walker",
             "--column", "x", "--last", "-5"],
            "--last is -5; it says how many",
        ),
        (
            ["compare", "tiny@1", "tiny@2", "--on", "memory://models", "--topic", "frames/walker",
             "--column", "long"],
            "The columns long give (3,) a frame; the models take (2,)",
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("registry", "stager")
def test_what_is_wrong_is_2_and_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.endswith(".\n")
    assert "Traceback" not in captured.err


@pytest.mark.usefixtures("registry")
def test_looking_at_the_list_needs_no_torch() -> None:
    code = (
        "import sys\nfrom bridge.cli.main import main\n"
        "code = main(['models', 'list'])\n"
        "assert not {'torch', 'river', 'safetensors'} & set(sys.modules)\nsys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True, capture_output=True)


def test_without_the_extra_it_says_how_to_get_it(registry: Registry) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom bridge.cli.main import main\n"
        "sys.exit(main(['models', 'promote', 'tiny@1', '--reason', 'x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=60, check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install 'headrace[learning]'" in done.stderr


def test_a_damaged_history_hides_no_other_model(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add("zebra", trained((1.0, 7.0)))
    path = registry.folder / "names" / "tiny" / "history.jsonl"
    path.write_bytes(path.read_bytes().replace(b"good", b"best", 1))
    for arguments in (["list"], ["list", "--history"]):
        assert main(["models", *arguments]) == 1
        out, said = capsys.readouterr()
        assert "zebra" in out
        assert "tiny: Line 1 of the history" in out
        assert "Line 1 of the history" in said
    assert main(["models", "list", "--json"]) == 1
    tiny, zebra = json.loads(capsys.readouterr().out)
    assert (tiny["name"], zebra["name"]) == ("tiny", "zebra")
    assert "Line 1 of the history" in tiny["problem"]
    assert len(zebra["versions"]) == 1
